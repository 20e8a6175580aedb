"""Odd replies: what lm-eval's own IFEval checkers, NLTK and langdetect say of them. The kinds' arguments and the replies are written
here, and mixed by a seeded generator.
usage: ifeval_odd.py PUNKT_DIR OUT_JSON [MIXED] [SEED]     (PUNKT_DIR: what NLTK is to know of sentences, `../punkt` for the golden)"""
import json, os, random, shutil, sys, tempfile
punkt, out = sys.argv[1:3]
mixed, seed = int(sys.argv[3]) if len(sys.argv) > 3 else 260, int(sys.argv[4]) if len(sys.argv) > 4 else 15
home = tempfile.mkdtemp(); shutil.copytree(punkt, os.path.join(home, "tokenizers/punkt_tab/english")); os.environ["NLTK_DATA"] = home
import importlib.metadata as md
import langdetect, nltk
from langdetect import DetectorFactory, detect_langs
nltk.data.path[:] = [home]
DetectorFactory.seed = 0
from lm_eval.tasks.ifeval import utils, instructions_util as iu
C = []
def c(kind, kw, *replies):
    C.extend((kind, kw, r) for r in replies)
# Patterns: a keyword is one.
c("keywords:existence", {"keywords": ["istanbul"]}, "İstanbul is a city.", "ISTANBUL", "ıstanbul", "Ankara")
c("keywords:existence", {"keywords": ["C\\+\\+", "a|b"]}, "I like c++ and Bees.", "C and D")
c("keywords:existence", {"keywords": ["naïve", "CAFÉ"]}, "A NAÏVE café.", "A nai\u0308ve cafe\u0301.")
c("keywords:existence", {"keywords": ["$5"]}, "It costs $5.", "5")
c("keywords:existence", {"keywords": ["what?"]}, "wha", "What!", "who?")
c("keywords:existence", {"keywords": ["mr. x"]}, "Mr. X", "mr! x", "mr.\nx")
c("keywords:existence", {"keywords": ["straße"]}, "STRASSE", "STRAẞE", "Straße")
c("keywords:existence", {"keywords": [" spaced "]}, "a spaced word", "spaced")
c("keywords:existence", {"keywords": ["[a-z]+ing"]}, "SING", "İNG", "ING")
c("keywords:frequency", {"keyword": " the ", "frequency": 2, "relation": "at least"}, "The other theme", "A the b")
c("keywords:frequency", {"keyword": "aa", "frequency": 2, "relation": "at least"}, "aaaa", "aaa", "AaAA")
c("keywords:frequency", {"keyword": "x*", "frequency": 4, "relation": "at least"}, "xx a", "ab", "abc")
c("keywords:frequency", {"keyword": "(a)(b)?", "frequency": 2, "relation": "less than"}, "ab a", "ab")
c("keywords:frequency", {"keyword": "σ", "frequency": 3, "relation": "at least"}, "Σς σ", "ΣΣ")
c("keywords:forbidden_words", {"forbidden_words": ["can't", "co-op"]}, "I can't.", "I cant.", "A co-op", "cooperate")
c("keywords:forbidden_words", {"forbidden_words": ["été"]}, "L'été.", "ÉTÉ", "étés", "e\u0301te\u0301")
c("keywords:forbidden_words", {"forbidden_words": ["id"]}, "İD", "an ID", "idea", "id_x", "id-x", "Id")
c("keywords:forbidden_words", {"forbidden_words": ["a.c"]}, "abc", "a.c.", "xabc")
c("keywords:forbidden_words", {"forbidden_words": ["\\+1"]}, "x+1", "+1", "a +1 b")
c("keywords:letter_frequency", {"letter": "i", "let_frequency": 2, "let_relation": "at least"}, "İI", "ıI", "iI")
c("keywords:letter_frequency", {"letter": "E", "let_frequency": 1, "let_relation": "less than"}, "É", "e", "xyz")
c("keywords:letter_frequency", {"letter": "k", "let_frequency": 2, "let_relation": "at least"}, "\u212ak", "K")
for code, text in {"ar": "هذا يوم جميل وسنذهب إلى الحديقة معا.", "bg": "Това е хубав ден и отиваме в парка.", "bn": "আজ একটি সুন্দর দিন এবং আমরা পার্কে যাব।", "de": "Heute gehen wir alle in den Wald.", "fa": "امروز روز زیبایی است و ما به پارک می‌رویم.", "fi": "Tänään on kaunis päivä ja menemme puistoon.", "fr": "C'est une belle journée et nous allons au parc.", "gu": "આજે સુંદર દિવસ છે અને આપણે બગીચામાં જઈશું.", "he": "היום יום יפה ואנחנו הולכים לפארק.", "hi": "आज मौसम अच्छा है।", "it": "Oggi è una bella giornata e andiamo al parco.", "kn": "ಇಂದು ಸುಂದರ ದಿನ ಮತ್ತು ನಾವು ಉದ್ಯಾನಕ್ಕೆ ಹೋಗುತ್ತೇವೆ.", "ko": "오늘은 공원에 갑니다.", "mr": "आज एक सुंदर दिवस आहे आणि आपण बागेत जाऊ.", "ne": "आज राम्रो दिन छ र हामी पार्क जान्छौं।", "pa": "ਅੱਜ ਇੱਕ ਸੁੰਦਰ ਦਿਨ ਹੈ ਅਤੇ ਅਸੀਂ ਪਾਰਕ ਜਾਵਾਂਗੇ।", "pt": "Hoje está um dia bonito e vamos ao parque.", "ru": "Сегодня хороший день, и мы идём в парк.", "sw": "Leo ni siku nzuri na tutaenda bustanini pamoja.", "ta": "இன்று ஒரு அழகான நாள், நாங்கள் பூங்காவிற்குச் செல்வோம்.", "te": "ఈరోజు అందమైన రోజు మరియు మనం పార్కుకు వెళ్తాము.", "th": "วันนี้อากาศดีและเราจะไปสวนสาธารณะกัน", "ur": "آج موسم اچھا ہے اور ہم باغ جائیں گے۔", "vi": "Hôm nay trời đẹp và chúng tôi đi công viên.", "zh-cn": "今天天气很好，我们去公园玩。", "ja": "今日は天気がいいので公園に行きます。"}.items():
    want = code if code in ("ar", "bg", "bn", "de", "fa", "fi", "gu", "hi", "it", "kn", "ko", "mr", "ne", "pa", "pt", "ru", "sw", "ta", "te", "th", "ur", "vi") else "de"
    c("language:response_language", {"language": want}, text, text + "\nThis line is an English sentence, in the middle of it.\n" + text)
c("language:response_language", {"language": "it"}, "😀😀", "!!! 12", "https://example.org/una/bella/giornata", "me@example.org", "OGGI È UNA BELLA GIORNATA E ANDIAMO AL PARCO", "a", "Ok.", "\u00a0\u00a0", "Tie\u0302\u0301ng Vie\u0323\u0302t", "ﬁne")
for rel in ("at least", "less than"):
    c("length_constraints:number_sentences", {"num_sentences": 2, "relation": rel}, "Hi.There", "A. B. C.", "Mr. Smith. He", "He said \"Go.\" Then left.", "One!Two?", "1. One\n2. Two", "e.g. x vs. y", "...", "Wait... what", "?!", "One.\n\nTwo", "U.S. troops. They", "\"Yes.\" \"No.\"", "(Yes.) No", "Done .Next", "Pi is 3.14. Ok", "Hello.  \n", "日本語。はい。", "Hello… World", "a.\u00a0b", "x. y. Z.", "a.\x1cB. c", "x. \x1cY. z", "End?é \x85Y. \x0b", "One.\x1fTwo. Three", "Go! \x1dNow.\x1e", "Es ist 5. Mai. Ja")
    c("length_constraints:number_words", {"num_words": 3, "relation": rel}, "a-b c", "don't", "日本語", "한국 말", "a_b c_d e", "²³ x y", "e\u0301 x", "हिन्दी", "1,000.5", "—", "a\u200bb c", "मैं घर जा रहा हूँ", "①②③ ½ ⅓", "a\u200cb c\u200dd")
    c("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": rel}, "I'M OK", "A.B. C", "CAN'T", "GONNA GO", "HELLO, WORLD!", "X-RAY", "\"NO\"", "ÉTÉ II", "A1 B2", "ΑΒ", "ǅ ABC", "N'T", "IT'S JOHN'S", "U.S.A.", "$5 USD", "AT&T", "Ⅷ IV", "A...B", "`A` ``B''", "(OK) [OK]", "CANNOT", "'TIS", "D'YE", "I:AM", "3,A", "PhD IBM")
c("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n\n***\n\nb", "***\na\n***\nb\n***", "a *** *** b", "a****b", "a\u00a0***\u00a0b", "***", "a***\n", "a*** ***")
c("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "Hello"}, "Hello, you.\n\nB", "\"'Hello\n\nB", "'\"hello'x\n\nB", "\n\nHello\n\nB", "hello\n\n\nB", "Hello-you\n\nB", "  HELLO!\n\n B", "Hello\n \nB", "''\"\"Hello\n\nb", "**Hello** x\n\nB", "Hello;x\n\nb")
c("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "ΛΟΓΟΣ"}, "ΛΟΓΟΣ x", "λογος", "λογοσ")
c("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "a\u00e9"}, "A\u00c9.", "a\u00a0b")
c("detectable_content:number_placeholders", {"num_placeholders": 1}, "[]", "[ ]", "[a\nb]", "[[x]]", "[x", "]x[")
c("detectable_content:postscript", {"postscript_marker": "P.S."}, "x P.S. y", "p.\ns. x", "p.\u00a0s.", "ps.", "P. S.", "**P.S.** x", "p.  s.")
c("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "P.P.S.", "p.p.s", "P. P.S", "P.S.")
c("detectable_content:postscript", {"postscript_marker": "P.P.S."}, "p.p.s.", "p.p.sx", "ppps")
c("detectable_content:postscript", {"postscript_marker": " NB: "}, "nb: x", "Nb", "NB : x")
c("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n\n* b", "- a\n- b\n---", "*a*\n*b*", "-\n-", "* \n* b", "\n\n* a\n  - b", "• a\n• b", "*\n*", "a - b\n-c\n* d", "\u00a0* a\n\u3000- b", "**a**\n* b\n* c", "* a\r\n* b", "*\n\n* b\n* c", "- a - b", "–a\n—b")
c("detectable_format:constrained_response", {}, "My answer is yes.", "My answer is maybe. ", "My answer is no", "MY ANSWER IS NO.", "\"My answer is no.\" ok", "My answer is\nyes.")
c("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a*b*c*", "**a** *b*", "* a * * b *", "***a*** x", "****", "*a**b*", "** a ** b **", "* *a* *", "*\n* *x* *y*", "\\*a\\* *b*", "**a*b**", "*\u00a0* *b* *c*")
c("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2}, "Section 1 Section 2", "Section\n1\nSection\n2", "Section  1 Section 2", "SubSection 1, Section 2", "Section I Section II", "Section ١ Section ٢", "Section1Section2", "Section #1 Section #2")
c("detectable_format:multiple_sections", {"section_spliter": "(Day)", "num_sections": 2}, "Day 1", "Day 1 Day 2", "x")
c("detectable_format:multiple_sections", {"section_spliter": " PARAGRAPH ", "num_sections": 1}, "PARAGRAPH 1", "paragraph 1")
c("detectable_format:json_format", {}, "```\n[]\n```", "```json{}", "``````", "null", "\"x\"", "{\"a\": NaN}", "-Infinity", "[1,2,]", "{\"a\":1}{}", "```json\n{\"a\":1}\n```\nok", "\ufeff{}", "{\"a\":\"b\nc\"}", "0123", "1e5", "1.", "tru", "{a:1}", "```JSON\n```json\n1```", "```json\n```", "[\"\\u12\"]", "[\"\\ud83d\"]", "\u00a01\u00a0", "-", "1" * 4301, "1" * 4300, "1" * 4301 + ".0", "{\"a\":1,\"a\":2}", "```python\n1\n```", "//x\n1", "'1'", "\u3000{}\u3000", "[\"\t\"]", "1_000", "+1", "0x1", ".5", "1e", "--1", "Infinity", "NaNN")
c("detectable_format:title", {}, "<<a>>", "<<>>", "<< \u00a0>>", "<<<>>>", "<<a>", "<a>", "<<a>>b>>", "<<\n>>", "< <a> >", "<<>a>>", "<<<<a", "<<>> <<a>>")
c("combination:two_responses", {}, "a******b", "a *******b", "a ****** a", "******a******b", "a******b******c", "a******\n******b", "a\n******\nb\n******\n", "******", "a******", "a************b", "A******a", "a ******\u00a0")
c("combination:repeat_prompt", {"prompt_to_repeat": " Say İt TWICE. "}, "say i\u0307t twice. ok", "Say İt TWICE.", "say it twice.", "\"Say İt TWICE.\"", "say i\u0307t  twice.")
c("combination:repeat_prompt", {"prompt_to_repeat": "ΟΔΟΣ ΣΑΣ"}, "οδος σας", "οδοσ σας", "ΟΔΟΣ ΣΑΣ!", "ΟΔΟΣ ΣΑΣΑ")
c("combination:repeat_prompt", {"prompt_to_repeat": "a\nb"}, "a\nb c", "a b")
c("startend:end_checker", {"end_phrase": "Bye!"}, "x bye!", "x \"Bye!\"", "x bye! \"\"", "bye! \" \"", "bye!.", "“bye!”", "*bye!*", "bye!\u00a0", "BYE!\n\n\"")
c("startend:end_checker", {"end_phrase": "ΤΕΛΟΣ"}, "το τέλος τελος", "ΤΕΛΟΣ", "τελοσ")
c("startend:end_checker", {"end_phrase": "\"Done\""}, "\"Done\"", "x \"done\"", "\"done")
c("startend:quotation", {}, "\"\"", "\"a\" b", "\"\"\"", "'a'", "\"a”", "\u00a0\"a\"\u00a0", "\"a\"\n", "*\"a\"*", "«a»", "\"a", "Sure:\n\"a\"\nok")
c("change_case:english_capital", {}, "HELLO MY FRIEND, HOW ARE YOU DOING TODAY?", "ΓΕΙΑ ΣΟΥ", "HELLO ǅ", "I AM 12", "HELLO ß", "Ⅷ", "OK", "THE END\nof it", "**HELLO MY DEAR FRIEND**", "ª HELLO THERE MY FRIEND", "A", "THIS IS THE LINE\n\nAND THIS IS ANOTHER ONE", "ⒶⒷ")
c("change_case:english_lowercase", {}, "hello my friend, how are you doing today?", "hello my friend\nHow", "ok", "hello ª there my friend", "123", "le chat est sur la table et il dort", "i am here and you are there", "ⅷ", "hello my friend, it is 5 o'clock ...", "ŉ", "this is fine — really, it is a fine day", "Note:\nthis is a fine day for all of us")
c("punctuation:no_comma", {}, "a，b", "a、b", "a;b", "1,000", "a‚b", "a\nb, c", "a, b\nc", "*,*")
# Blank replies fail whatever is asked; blanks that Python alone strips.
for kind, kw in [("punctuation:no_comma", {}), ("startend:quotation", {}), ("detectable_format:json_format", {})]:
    c(kind, kw, "", " \n", "\u00a0", "\x1c\x1f", "\u200b", "\x1c\"a\"\x1d", "\x1f1\x1e", "\n\n\n", "*", "* *")
# Mixed: sentences put together from odd pieces.
P = ["Dr. ", "Mr. Smith ", "e.g. ", "i.e., ", "U.S. ", "3.14 ", "$1,000.50 ", "p.m. ", "No. 5 ", "vs. ", "Jan. 3. ", "J. R. R. Tolkien ", "...", " . ", "?! ", "!!! ", "\" ", "\"Yes.\" ", "('ok') ", "[name] ", "<<T>> ", "*b* ", "**b** ", "\n", "\n\n", "\n* ", "\n- ", "- ", "-- ", "— ", "the ", "The ", "He ", "they ", "Why ", "I'm ", "can't ", "cannot ", "gonna ", "IT'S ", "NASA ", "B.B.C. ", "don't", "rock 'n' roll ", "'tis ", "'Twas ", "d'ye ", "wanna go ", "more'n ", "l'été ", "naïve ", "Straße ", "日本語。", "はい", "Привет. ", "😀 ", "a@b.co ", "http://x.y/z. ", "1. ", "2) ", "a) ", ", ", "; ", ": ", "&c. ", "# ", "100% ", "`code` ", "``q'' ", "<b>", "\u00a0", "\t", "\u2028", "\u3000", "«q» ", "„q“ ", "‘q’ ", "“Go.” ", "(See p. 7.) ", "etc. ", "St. James St. ", "5 p.m. ", "x.", "Y. ", "a.b.c ", "Ph.D. ", "end.", "End?", "end!", "Ok…", "-5 ", ".5 ", "1,2,3 ", "##number## ", "_u_ ", "{\"a\": 1} ", "\x0b", "\x0c", "\x1c", "\x85", "İ", "ǅ", "ß", "ΣΑΣ ", "e\u0301 "]
K = [("length_constraints:number_sentences", lambda r: {"num_sentences": r.randint(1, 6), "relation": r.choice(["at least", "less than"])}),
     ("change_case:capital_word_frequency", lambda r: {"capital_frequency": r.randint(1, 5), "capital_relation": r.choice(["at least", "less than"])}),
     ("length_constraints:number_words", lambda r: {"num_words": r.randint(4, 20), "relation": r.choice(["at least", "less than"])}),
     ("detectable_format:number_bullet_lists", lambda r: {"num_bullets": r.randint(1, 3)}),
     ("detectable_format:number_highlighted_sections", lambda r: {"num_highlights": r.randint(1, 3)}),
     ("length_constraints:nth_paragraph_first_word", lambda r: (lambda n: {"num_paragraphs": n, "nth_paragraph": r.randint(1, n), "first_word": r.choice(["the", "He", "why", "i'm", "end"])})(r.randint(1, 3))),
     ("startend:end_checker", lambda r: {"end_phrase": r.choice(["end.", " Yes.", "e", "”"])}),
     ("change_case:english_lowercase", lambda r: {}), ("language:response_language", lambda r: {"language": r.choice(["de", "ru", "it"])})]
r = random.Random(seed)
texts = []
for _ in range(mixed):
    text = "".join(r.choice(P) for _ in range(r.randint(1, 30)))
    texts.append(text)
    kind, kw = r.choice(K)
    C.append((kind, kw(r), text))
rows = []
for i, (k, kw, reply) in enumerate(C):
    inp = utils.InputExample(key=i, instruction_id_list=[k], prompt="Write a poem.", kwargs=[dict(kw)]); random.seed(0)
    s = utils.test_instruction_following_strict(inp, reply); l = utils.test_instruction_following_loose(inp, reply)
    rows.append(dict(kind=k, kwargs=kw, response=reply, strict=bool(s.follow_instruction_list[0]), loose=bool(l.follow_instruction_list[0])))
T = list(dict.fromkeys([x["response"] for x in rows if x["response"].strip() and len(x["response"]) < 2000 and (x["kind"].startswith(("length", "change", "language")))] + texts))
parts = []
for t in T:
    try: lang = [(x.lang, round(x.prob, 6)) for x in detect_langs(t)]
    except langdetect.LangDetectException: lang = None
    parts.append(dict(text=t, sentences=iu._get_sentence_tokenizer().tokenize(t), word_tokens=nltk.word_tokenize(t), langdetect_seed_0=lang))
json.dump(dict(kind="odd replies of IFEval", versions={p: md.version(p) for p in ("lm_eval", "nltk", "langdetect")}, seed=seed, rows=rows, documents=[], parts=parts), open(out, "w"), ensure_ascii=False, separators=(",", ":"))
print(len(rows), "rows", len({x["kind"] for x in rows}), "kinds;", sum(x["strict"] for x in rows), "strict", sum(x["loose"] for x in rows), "loose;", len(parts), "parts")
