//! `ridgepoint generate`: continues a prompt or answers a chat, plainly or with a drafter.

use super::Global;
use crate::analysis::{Arm, derive};
use crate::decode::sampling::Sampling;
use crate::decode::{Request, Round, Run, plain, speculative};
use crate::draft;
use crate::model::chat::Message;
use crate::model::hub;
use crate::model::language_model::LanguageModel;
use crate::model::weights::LoadOptions;
use crate::report::stream::{Summary, TextStream, wants_colour};
use crate::roofline::StopRule;
use crate::scenario::{self, DraftSpec, Dtype, ModelSource, Quantization, StopSpec};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Continue a prompt or answer a chat, plainly or with a drafter
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A GGUF file, a directory of safetensors, a name under models/, or hf://org/name[@revision]
    model: String,
    /// The prompt; standard input if neither this nor --prompt-file is given
    #[arg(long, short, conflicts_with = "prompt_file")]
    prompt: Option<String>,
    /// A file that holds the prompt
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Put the prompt through the model's chat template, as the user's message
    #[arg(long)]
    chat: bool,
    /// The system message of the chat
    #[arg(long, requires = "chat", value_name = "TEXT")]
    system: Option<String>,
    /// Tokens to generate at most
    #[arg(long, short = 'n', default_value_t = 256, value_name = "N", allow_negative_numbers = true)]
    max_tokens: usize,
    /// Do not stop at the end of the text
    #[arg(long)]
    ignore_eos: bool,
    /// 0 is greedy
    #[arg(long, default_value_t = 0.0, value_name = "T", allow_negative_numbers = true)]
    temperature: f32,
    /// Keep the most probable tokens whose mass reaches this
    #[arg(long, default_value_t = 1.0, value_name = "P", allow_negative_numbers = true)]
    top_p: f32,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A draft file (see drafts/)
    #[arg(long, value_name = "FILE")]
    draft: Option<PathBuf>,
    /// Tokens that the drafter proposes a round; 0 is plain decoding
    #[arg(long, default_value_t = 4, value_name = "N", requires = "draft")]
    draft_length: usize,
    /// Draft with a trained drafter although it was trained for other weights
    #[arg(long, requires = "draft")]
    force: bool,
    /// The float type of the weights: float32, float16 or bfloat16; as stored if not given
    #[arg(long)]
    dtype: Option<Dtype>,
    /// Quantise the weights on load: BITS or BITS:GROUP
    #[arg(long, value_name = "BITS[:GROUP]")]
    quantize: Option<Quantization>,
    /// Generate so many tokens first, which are neither shown nor timed: a GPU's kernels are compiled or loaded when they are
    /// first used
    #[arg(long, default_value_t = 0, value_name = "N")]
    warm_up: usize,
    /// Print one JSON object in place of the text
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let sampling = Sampling::new(args.temperature, args.top_p)?;
    if args.max_tokens == 0 {
        return Err(crate::usage!("--max-tokens 0 leaves nothing to generate; give at least 1"));
    }
    if args.draft_length > crate::scenario::MAX_WIDTH - 1 {
        return Err(crate::usage!("--draft-length {} is out of range: give 0 to 127", args.draft_length));
    }
    let mut spec =
        args.draft.as_deref().map(|file| Ok::<_, anyhow::Error>((file, DraftSpec::read(file)?))).transpose()?;
    if let Some((_, spec)) = spec.as_mut().filter(|_| args.force) {
        spec.insist();
    }
    let stop = match args.draft.as_deref() {
        Some(file) if args.draft_length > 0 => stop_rule(file, args.draft_length)?,
        _ => None,
    };
    let text = prompt_text(args)?;
    crate::machine::device::select(global.device)?;

    let options = LoadOptions { dtype: args.dtype.map(Into::into), quantize: args.quantize };
    let model = LanguageModel::load(&hub::resolve(&args.model)?, &options)?;
    let mut drafter = match &spec {
        Some((file, spec)) => {
            let mut drafter = draft::build(file, spec, &model, &|name| draft_model(file, name))?;
            drafter.stop_by(stop);
            Some(drafter)
        }
        None => None,
    };
    let prompt = if args.chat { model.encode_chat(&chat(args, text))? } else { model.encode_text(&text)? };
    let draft_length = drafter.as_ref().map_or(0, |_| args.draft_length);
    model.check_room(prompt.len().saturating_add(args.max_tokens).saturating_add(draft_length))?;
    let end_ids: &[u32] = if args.ignore_eos { &[] } else { &model.end_ids };
    let (max_tokens, seed) = (args.max_tokens, args.seed);
    let request = Request { prompt: &prompt, max_tokens, sampling, seed, end_ids, read: None };

    let mut decode = |max_tokens: usize, observe: &mut dyn FnMut(Round)| {
        let request = Request { max_tokens, ..request.clone() };
        match drafter.as_deref_mut().filter(|_| draft_length > 0) {
            Some(drafter) => speculative::decode(&model.transformer, drafter, draft_length, &request, observe),
            None => plain::decode(&model.transformer, &request, observe),
        }
    };
    if args.warm_up > 0 {
        decode(args.warm_up.min(max_tokens), &mut |_| ())?;
    }
    let mut output = Output::new(&model, !args.json);
    let run = decode(max_tokens, &mut |round| output.round(round))?;
    let text = output.finish()?;
    let summary = summary(run, text, prompt.len(), model.load_seconds)?;
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        eprintln!("{}", summary.line());
    }
    Ok(())
}

/// The rule of a draft file's `[stop]` table; the cost-aware one as fitted in a results folder.
fn stop_rule(file: &Path, draft_length: usize) -> Result<Option<StopRule>> {
    let shown = file.display();
    let fitted = match StopSpec::read(file)? {
        None => return Ok(None),
        Some(StopSpec::PMin { threshold }) => return Ok(Some(StopRule::PMin { threshold })),
        Some(StopSpec::Entropy { weight, threshold }) => return Ok(Some(StopRule::Entropy { weight, threshold })),
        Some(StopSpec::AcceptanceAverage { memory }) => return Ok(Some(StopRule::AcceptanceAverage { memory })),
        Some(StopSpec::CostAware { fitted }) => fitted,
    };
    let Some(fitted) = fitted else {
        return Err(crate::usage!(
            "{shown}: stop.fitted: is missing; name the results folder of a tune with this drafter, on whose t(b) the rule rests"
        ));
    };
    let folder = scenario::find(file, "stop.fitted", &fitted)?;
    let drafter = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut rules = derive(&folder, false)?.rules;
    let rule = rules.remove(&Arm { drafter: drafter.clone(), draft_length: draft_length as u64 });
    Ok(Some(rule.ok_or_else(|| {
        crate::usage!(
            "{shown}: stop.fitted: {} has no rule of '{drafter}' for --draft-length {draft_length}; tune it there",
            folder.display()
        )
    })?))
}

fn prompt_text(args: &Args) -> Result<String> {
    match (&args.prompt, &args.prompt_file) {
        (Some(text), _) => Ok(text.clone()),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|error| crate::usage!("--prompt-file {}: cannot be read as text ({error})", file.display())),
        (None, None) => std::io::read_to_string(std::io::stdin()).context("standard input cannot be read as text"),
    }
}

fn chat(args: &Args, text: String) -> Vec<Message> {
    let system = args.system.iter().map(|text| ("system", text.clone()));
    let messages = system.chain([("user", text)]);
    messages.map(|(role, content)| Message { role: role.to_owned(), content }).collect()
}

fn draft_model(file: &Path, name: &str) -> Result<PathBuf> {
    match ModelSource::find(file, "path", name)? {
        ModelSource::Local(path) => Ok(path),
        ModelSource::Hub(name) => hub::resolve(&name),
    }
}

fn summary(run: Run, text: String, prompt_tokens: usize, load_seconds: f64) -> Result<Summary> {
    Ok(Summary {
        text,
        rounds: run.rounds,
        drafted: run.drafted,
        accepted: run.accepted,
        seconds: run.seconds,
        prompt_tokens,
        prefill_seconds: run.prefill_seconds,
        load_seconds,
        peak_memory_bytes: mlx_rs::memory::peak_memory()? as u64,
        tokens: run.tokens,
    })
}

/// Decodes tokens to text as they come, and shows it unless told not to.
struct Output<'a> {
    tokens: crate::model::token_stream::TokenStream<'a>,
    screen: Option<TextStream<std::io::Stdout>>,
    text: String,
    failed: Option<std::io::Error>,
}

impl<'a> Output<'a> {
    fn new(model: &'a LanguageModel, show: bool) -> Self {
        let screen = show.then(|| TextStream::new(std::io::stdout(), wants_colour(&std::io::stdout())));
        Output { tokens: model.tokenizer.stream(true), screen, text: String::new(), failed: None }
    }

    fn round(&mut self, round: Round) {
        for (place, &token) in round.tokens.iter().enumerate() {
            if let Some(text) = self.tokens.push(token) {
                self.show(&text, place < round.accepted);
            }
        }
    }

    fn show(&mut self, text: &str, from_draft: bool) {
        self.text.push_str(text);
        if let Some(Err(error)) = self.screen.as_mut().map(|screen| screen.committed(text, from_draft)) {
            self.failed.get_or_insert(error);
        }
    }

    /// The whole text; an error if it could not be shown.
    fn finish(mut self) -> Result<String> {
        if let Some(text) = self.tokens.flush() {
            self.show(&text, false);
        }
        if let Some(error) = self.failed {
            return Err(error).context("the text cannot be written to standard output");
        }
        if let Some(screen) = self.screen {
            screen.finish().context("the text cannot be written to standard output")?;
        }
        Ok(self.text)
    }
}
