"""The texts that tokenizers are compared on: code, digits, white space, scripts, emoji, control and special tokens."""
import random
import unicodedata

PROSE = r"""The quick brown fox jumps over the lazy dog.
It's what they'd said: we're late, I'll go, you've won, he's not, I'm done, don't!
IT'S WHAT THEY'D SAID: WE'RE LATE, I'LL GO, YOU'VE WON.
Speculative decoding proposes several tokens and verifies them in one forward pass.
"Quoted," she said—then left… (really?) [yes] {no} <maybe>
A sentence.Without spaces,between:its;parts!And?More
e.g. i.e. etc. a.m. p.m. U.S.A. Ph.D. vs. No.1
well-known state-of-the-art co-operate re-enter
Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft
pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism
camelCaseName PascalCaseName snake_case_name kebab-case-name SCREAMING_CASE XMLHttpRequest iPhone McDonald
The bandwidth is 900 GB/s; the ridge is at 156 FLOP/byte.
Dear Sir or Madam,\n\nI am writing to you.\n\nYours faithfully,\nA. Reader
1. First\n2. Second\n   a. Nested\n   b. Nested too\n3. Third
* one\n* two\n\n- three\n- four
Name:\tAnna\nAge:\t42\nTown:\tZürich
http://example.org/a/b?c=d&e=f#g https://例え.jp/パス mailto:me@example.org
@user #tag $HOME %d ^top &ref *star ~tilde `tick` |pipe| \\backslash\\
:) :-( ;-) <3 ^_^ ¯\\_(ツ)_/¯
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
!!!!!!!!!!!!!!!! ???????? ........ -------- ======== ________ ######## ********"""

CODE = r"""def f(x):\n    return x ** 2  # square
for i in range(10):\n\tprint(i, end='')\n
if (a && b || !c) { x += 1; } else { x -= 1; }
fn main() -> Result<(), Box<dyn Error>> {\n    println!("{:?}", vec![1, 2, 3]);\n    Ok(())\n}
#include <stdio.h>\nint main(void) { return printf("%d\\n", 0x1F); }
SELECT * FROM t WHERE a = 'it''s' AND b >= 1.5e-3 ORDER BY c DESC;
<div class="a b">\n  <p>Hi &amp; bye</p>\n</div>
{"key": [1, 2.5, -3e10, null, true], "s": "a\\u00e9\\n"}
x = lambda *args, **kw: {**kw, 'a': [*args]}[-1:]
let r#type = 'a'; let s = r"\\d+"; let b = b"\\x00";
git commit -m "fix: don't crash" && git push --force-with-lease
$ echo "${PATH}" | tr ':' '\\n' | sort -u > /tmp/out.txt 2>&1
a[i][j]=b->c.d::e<f>(g,h)?i:j;
/* comment */ // another\n# yet another\n-- and one more
    indented four\n        eight\n            twelve\n\tone tab\n\t\ttwo
\\begin{equation} \\frac{a}{b} \\leq \\sum_{i=0}^{n} x_i \\end{equation}
@decorator\nasync def g(self, *, k: int = 0) -> None: ...
import numpy as np; np.zeros((3,4),dtype=np.float32)
==> === !== <=> |> ::= := ->> => <- ++ -- << >> ** // /* */ &&= ||= ??= ?. ...
0b1010 0o755 0xDEADBEEF 1_000_000 1e-9 .5 5. 1.2.3.4"""

DIGITS = r"""0
7
10
42
123
1234
12345
123456
1234567
12345678901234567890
3.14159265358979
1,000,000.00
-273.15
+49 89 1234567
2024-11-24T07:49:08Z
12:34:56.789
192.168.0.1
50% 1/2 3rd 4th 10x v2.0.1 A4 H2O 4K
a1b2c3 1a2b3c x86-64 i18n
½ ¼ ² ³ ₁₂ ① ② Ⅷ ⅷ ㊿
١٢٣٤٥ ۱۲۳ १२३४ ๑๒๓ 一二三 ５６７８
1 2 3  4   5    6
12 34\n56\t78
007 0 00 000 0000
1st 22nd 333rd 4444th 55555"""

SCRIPTS = r"""Ünïcödé façade naïve café résumé coöperate Ångström
é é à à ñ ñ Å Å ệ ệ ô̂́
Größe Straße Fuß ẞ ﬁ ﬂ ﬀ Ǆ ǅ ǆ
Žluťoučký kůň úpěl ďábelské ódy
Zażółć gęślą jaźń
Съешь же ещё этих мягких французских булок, да выпей чаю
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία
שלום עולם, מה שלומך?
שָׁלוֹם עֲלֵיכֶם
مرحبا بالعالم، كيف حالك؟
اَلسَّلَامُ عَلَيْكُمْ
این یک متن فارسی است‌که نیم‌فاصله دارد
नमस्ते दुनिया, आप कैसे हैं?
হ্যালো বিশ্ব
வணக்கம் உலகம்
สวัสดีชาวโลก ภาษาไทยไม่มีช่องว่าง
ជំរាបសួរ​ពិភពលោក
မင်္ဂလာပါ
გამარჯობა მსოფლიო
Բարեւ աշխարհ
ሰላም ልዑል
你好，世界！今天天气很好。
我们提出了一种新的方法，可以在不改变输出的情况下加快解码速度。
繁體中文與簡體中文
こんにちは世界。カタカナとひらがなと漢字。
ｶﾀｶﾅ ＡＢＣ １２３ ！？
안녕하세요 세계 한국어 띄어쓰기
한국어
𠀀𠀁𠮷野家 𝕳𝖊𝖑𝖑𝖔 𝟙𝟚𝟛 𐍈 𓀀
Tiếng Việt có dấu thanh
İstanbul ığüşöç IĞÜŞÖÇ
mixed 中文 and English と日本語 и русский
中文123英文abc
русский123текст"""

SYMBOLS = r"""😀😃😄😁
👍🏽👩‍💻👨‍👩‍👧‍👦🏳️‍🌈🇩🇪🇯🇵
☺️ ☺ ❤️ ❤ ✌🏿
a😀b 😀 c😀
emoji😀in😀words 🎉!🎉?
→ ← ⇒ ∀x∈ℝ: ∃y ≤ ∞ ∑∏∫√ ≠ ≈ ±
€100 £50 ¥1000 ₹500 ₿1
“curly” ‘quotes’ «guillemets» „German“ 「日本」
– — ‒ ― ‐ ‑ − … · • ‣
© ® ™ ° § ¶ † ‡
█▓▒░ ┌─┐│└┘ ■□●○
♠♥♦♣ ♪♫ ☀☁☂ ♔♕
⠓⠑⠇⠇⠕"""

SPECIAL = r"""<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n
<|im_start|>system\nYou are helpful.<|im_end|>
text<|endoftext|>more
text <|endoftext|> more
<|endoftext|><|endoftext|>
<|im_start|><|im_end|>
 <|im_start|> 
<|im_start
|im_end|>
<|im_END|>
<| im_start |>
<|unknown|>
<s>Hello</s>
<s> Hello </s>
 <s>
[INST] Hi [/INST]
<unk><pad>
<repo_name>a/b<file_sep>c.py\n<filename>d
<jupyter_code>print(1)<jupyter_output>1<empty_output>
<issue_start><issue_comment>x<issue_closed>
<think>\n\n</think>\n\nanswer
<tool_call>{"name": "f"}</tool_call>
<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>
<0x0A><0x41>
▁hello▁world ▁ ▁▁
Ġhello ĠĠ Ċ ĉ
é<|im_end|>é
中<|im_end|>文"""


# What the families' ways to cut a text differ in, all in the first text.
EDGES = "(!\n/\n/ 1234567 THEY'LL they'll  12 MixedCASE e\u0301 brown  lazy dog\r\n\r\n  \n x\u00bd<s></s><think>"


def lines(block):
    """One text a line; a written-out backslash-n or -t is a new line or a tab."""
    return [line.replace("\\n", "\n").replace("\\t", "\t") for line in block.split("\n")]


def white_space():
    runs = [" " * n for n in (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 31, 64, 100)]
    runs += ["\n" * n for n in (1, 2, 3, 4, 9)] + ["\t" * n for n in (1, 2, 3, 5)]
    runs += ["\r", "\r\n", "\r\n\r\n", " \n", "\n ", " \n ", "  \n\n  ", "\t \t", " \t\n\r\n\t ", "\v", "\f", "\v\f\v"]
    odd = ["\u00a0", "\u00a0\u00a0", "\u2003", "\u3000", "\u2028", "\u2029", "\u200b", "\u200d", "\u0085", "\ufeff", "\u1680"]
    framed = [f"a{run}b" for run in runs] + [f"{run}b" for run in runs[:8]] + [f"a{run}" for run in runs[:8]]
    return runs + odd + framed + [f"a{space}b {space}c{space} " for space in odd] + [f"end{space}\n{space}start" for space in odd[:5]]


def control():
    codes = list(range(0, 32)) + [127] + [128, 133, 144, 159, 160, 173]
    return [f"a{chr(code)}b" for code in codes] + [chr(code) for code in (0, 1, 4, 27, 127)] + [
        "\x1b[31mred\x1b[0m", "a\x00\x00b", "\ufffd", "a\ufffdb\ufffd\ufffd", "\ue000\uf8ff", "\U0010ffff", "\ud7ff\ue000"]


def mixtures(count):
    """Seeded strings that put unlike characters next to each other."""
    pick = random.Random(20241124)
    pools = ["abcXYZ", "éßÅñ", "0123456789", "   \n\t", "!?.,;:'\"()-/", "中文日本語", "кириллица", "שלום", "مرحبا", "😀👍🏽\u200d❤️",
             "'s't're've'm'll'd", "\r\n \r\n", "\u0301\u0308\u093f", "½²Ⅷ١", "\u00a0\u3000", "aA1 -_"]
    return ["".join(pick.choice(pick.choice(pools)) for _ in range(pick.randint(2, 28))) for _ in range(count)]


def texts():
    """At least 500 different texts, always the same ones."""
    blocks = [PROSE, CODE, DIGITS, SCRIPTS, SYMBOLS, SPECIAL]
    everything = [EDGES, ""] + [line for block in blocks for line in lines(block)]
    everything += ["  " + line for line in lines(PROSE)[:6]] + [line + " " for line in lines(CODE)[:6]]
    everything += [unicodedata.normalize("NFD", line) for line in lines(SCRIPTS)]
    everything += white_space() + control() + mixtures(240)
    unique = list(dict.fromkeys(everything))
    assert len(unique) >= 500, len(unique)
    return unique
