//! Chat templates against transformers (`scripts/oracle/chat.py`), and what is said of bad ones.
#![cfg(feature = "mlx")]

use jiff::ZonedDateTime;
use ridgepoint::model::chat::{ChatTemplate, Message};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Golden {
    /// What the templates were told to take as the time.
    now: String,
    special_tokens: Value,
    conversations: Vec<Vec<Message>>,
    templates: Vec<Template>,
}

#[derive(Deserialize)]
struct Template {
    name: String,
    template: String,
    /// For each conversation without and with the generation prompt; null where transformers refuses it.
    rendered: Vec<[Option<String>; 2]>,
}

#[test]
fn renders_as_transformers_byte_for_byte() {
    let golden: Golden = serde_json::from_str(include_str!("golden/tokenizer/chat.json")).unwrap();
    let now: ZonedDateTime = format!("{}[UTC]", golden.now).parse().unwrap();
    let mut compared = 0;
    for Template { name, template, rendered } in &golden.templates {
        let chat = ChatTemplate::from_config(&golden.special_tokens, Some(template)).unwrap().unwrap();
        assert_eq!(rendered.len(), golden.conversations.len());
        for (conversation, expected) in golden.conversations.iter().zip(rendered) {
            for (prompt, expected) in [false, true].into_iter().zip(expected) {
                let ours = chat.render_at(conversation, prompt, &now);
                assert_eq!(ours.as_ref().ok(), expected.as_ref(), "{name} {conversation:?}: {ours:?}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 280);
}

fn user(content: &str) -> Vec<Message> {
    vec![Message { role: "user".into(), content: content.into() }]
}

fn rendered(config: Value, jinja: Option<&str>) -> Option<String> {
    let chat = ChatTemplate::from_config(&config, jinja).unwrap()?;
    Some(chat.render(&user("Hi"), false).unwrap())
}

#[test]
fn finds_the_template() {
    const CONTENT: &str = "{{ messages[0].content }}";
    assert_eq!(rendered(Value::Null, None), None);
    assert_eq!(rendered(json!({"chat_template": null}), None), None);
    assert_eq!(rendered(json!({"chat_template": CONTENT}), None).unwrap(), "Hi");
    let named =
        json!({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": CONTENT}]});
    assert_eq!(rendered(named.clone(), None).unwrap(), "Hi");
    assert_eq!(rendered(named, Some("{{ messages[0].role }}")).unwrap(), "user");
    let token = json!({"chat_template": "{{ bos_token }}{{ eos_token }}", "bos_token": "<s>", "eos_token": {"content": "</s>"}});
    assert_eq!(rendered(token, None).unwrap(), "<s></s>");
}

fn refusal(config: Value, jinja: Option<&str>) -> (String, u8) {
    let error = match ChatTemplate::from_config(&config, jinja) {
        Err(error) => error,
        Ok(chat) => chat.unwrap().render(&user("Hi"), false).unwrap_err(),
    };
    let message = format!("{error:#}");
    assert!(!message.contains('\n'), "{message}");
    (message, ridgepoint::error::exit_code(&error))
}

#[test]
fn says_in_one_line_what_is_wrong() {
    let cases = [
        (
            json!({"chat_template": "{% if x %}\n{{ a b }}"}),
            None,
            "chat_template in tokenizer_config.json: line 2: ",
            1,
        ),
        (
            json!({"chat_template": "{% for m in messages %}"}),
            None,
            "chat_template in tokenizer_config.json: line 1: ",
            1,
        ),
        (Value::Null, Some("{% nonsense %}"), "chat_template.jinja: line 1: ", 1),
        (Value::Null, Some("{{ raise_exception('Only\nrobots.') }}"), "this conversation (line 1: Only robots.)", 2),
        (Value::Null, Some("{{ nothing.at.all }}"), "chat_template.jinja cannot render this conversation", 2),
        (Value::Null, Some("{{ strftime_now('%!') }}"), "chat_template.jinja cannot render this conversation", 2),
        (json!({"chat_template": [{"name": "rag", "template": ""}]}), None, "named 'default'", 2),
        (json!({"chat_template": 5}), None, "neither a string nor a list", 2),
    ];
    for (config, jinja, expected, code) in cases {
        let (message, exit_code) = refusal(config, jinja);
        assert!(message.contains(expected), "{message}");
        assert_eq!(exit_code, code, "{message}");
    }
}

#[test]
fn endless_templates_end() {
    let (message, _) = refusal(Value::Null, Some("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"));
    assert!(message.contains("cannot render"), "{message}");
    let (message, _) = refusal(Value::Null, Some("{% for i in range(1000000000) %}{% endfor %}"));
    assert!(message.contains("cannot render"), "{message}");
}
