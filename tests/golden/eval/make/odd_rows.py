"""Odd rows of each task, in the forms of the original sets: other scripts, blanks and line breaks at either end, lists of one and of
twelve, equal choices, texts longer than the model holds, brackets, several marks. usage: odd_rows.py OUT_DIR"""
import json, os, sys
out = sys.argv[1]; os.makedirs(out, exist_ok=True)
LONG = "One day a little girl named Lily went to the park with her mom and saw a big dog. "
def write(name, rows):
    with open(os.path.join(out, name + ".jsonl"), "w", encoding="utf-8") as f:
        for row in rows: f.write(json.dumps(row, ensure_ascii=False) + "\n")
def arc(i, question, texts, key, labels="ABCDEFGHIJKL"):
    return {"id": f"odd-{i}", "question": question, "choices": {"text": texts, "label": list(labels)[: len(texts)]}, "answerKey": key}
A = [("Où est l'été ?", ["à la plage", "en hiver 🏖️", "été", "e\u0301te\u0301"], "C", "ABCD"), ("これは何ですか", ["猫 cat", "犬です。 dog", "ﬁsh"], "2", "123"), ("ends in blanks   ", ["yes ", " no", "maybe"], "3", "12345"),
     ("ends in lines\n\n", ["yes\nor\nno", "\ttab", "x\u00a0"], "A", "ABCD"), ("twice", ["the same", "the same", "other", "the same"], "B", "ABCD"), ("one", ["only"], "A", "ABCD"), (LONG * 40, ["She ran.", "He ran to the big red house."], "1", "12345"),
     ("long choices", [LONG * 3, LONG * 5 + "The end.", "short"], "A", "ABCD"), ("{{ braces }} {% raw %} {# x #}", ["{{ x }}", "<s>", "</s> after"], "B", "ABCD"), ("\u2028 odd\u3000", ["\u3000wide", "narrow\u200b", "\ufeffmark"], "C", "ABCD"),
     ("many", [f"choice {i}" for i in range(12)], "L", "ABCDEFGHIJKL"), ("", ["nothing", "\"quoted\"", "it's"], "C", "ABCD"), ("Which\r\nends?", ["\r\nx", "a\r", "b"], "B", "ABCD"), ("Once upon a time, there was a little girl named", ["Lily", "Lily.", "Tim", "Zq"], "D", "ABCD"), ("a  b   c", ["...", "?!", "21 °C", "½ x"], "D", "ABCD")]
write("arc_test", [arc(i, *a) for i, a in enumerate(A)])
write("arc_train", [arc(100 + i, f"shot {i}? " + "tall " * (i % 4) + ("é" if i % 3 == 0 else ""), [f"right {i}", "wrong ", " odd"][: 2 + i % 2], "12"[i % 2] if i % 5 == 0 else "AB"[i % 2], "1234" if i % 5 == 0 else "ABCD") for i in range(29)])
def hs(i, label, a, b, endings, right):
    return {"ind": i, "activity_label": label, "ctx_a": a, "ctx_b": b, "ctx": f"{a} {b}", "endings": endings, "source_id": f"odd~{i}", "split": "val", "split_type": "zeroshot", "label": right}
E4 = ["goes home.", "[step] goes  out [title] now.", "  sings.", "falls [substeps] asleep."]
H = [("Making été", "A man [header] fills a kettle [title] With tea.", "éTÉ Il", E4, "1"), ("[title] Odd", "A  b   c [step] d.", "", E4, "2"), ("x [not closed", "[a][b] c", "ǆ He", ["a]b[c", "[] q", "[[x]] r", "y [title] z [title] w"], "3"),
     (" Blank ", " starts with blanks", "İstanbul", ["the same", "the same", "the same", "the same"], "2"), ("Long", LONG * 30, "then she", [LONG * 2, "ran.", "sat", "[x]  y "], "1"), ("日本", "彼は", "茶を飲む", ["犬。 dog", "猫 cat", "x茶", "🙂y🙂"], "0"), ("Lines", "a\nb [step]\nc", "ßo\nD", ["[x\ny] z", "\nq", "r\n", "s"], "0"), ("Title", "[title] How to [title] go", "sHE'S ON", ["[title] a", " [title]b", "c [title]", "d.  e"], "3")]
write("hellaswag_validation", [hs(i, *h) for i, h in enumerate(H)])
write("hellaswag_train", [hs(100 + i, f"Shot {i}", f"A shot [step] number {i} [title] here.", "she" if i % 2 else "", [f"right {i}", "wrong", " odd  ones", "[x] last"], str(i % 4)) for i in range(12)] + [hs(0, *H[0]), hs(2, *H[2])])
def mm(subject, question, choices, answer): return {"question": question, "subject": subject, "choices": choices, "answer": answer}
M = [(" leading and trailing \n", ["a", " b", "c ", ""], 0), ("Où ?\n\nEt quand ?", ["été", "e\u0301", "½", "🙂"], 1), (LONG * 40, ["x", "y", "z", "w"], 2), ("same", ["1", "1", "1", "1"], 3), ("{{ x }} A. B. C.", ["A. x", "B", "D", "Answer: A"], 0), ("\u3000wide\u3000", ["\n", "\t", "\u00a0", "."], 2)]
for subject, take in (("anatomy", slice(0, 6)), ("abstract_algebra", slice(1, 4)), ("world_religions", slice(4, 6))):
    write(f"mmlu_{subject}_test", [mm(subject, *m) for m in M[take]])
    write(f"mmlu_{subject}_dev", [mm(subject, f" Shot {i} of {subject}? " + "é" * i, [f"c{j} {i}" for j in range(4)], (i * 3) % 4) for i in range(7)])
def tq(question, choices, labels): return {"question": question, "mc1_targets": {"choices": choices[:2], "labels": [1, 0]}, "mc2_targets": {"choices": choices, "labels": labels}}
write("truthfulqa_validation", [tq("Mixed labels?", ["yes", "no", "maybe", "perhaps"], [0, 1, 0, 1]), tq("All true? ", ["a", "b"], [1, 1]), tq("", ["été", "e\u0301te\u0301 ", " x", "\ny"], [1, 0, 0, 0]), tq("None true", ["a b", "c"], [0, 0]), tq("Lines\n\nQ: x\nA: y", ["Lily", "Lily", "Tim"], [1, 0, 1]), tq("🙂", ["日本語 x", "\"q\"", "it's"], [1, 0, 1]), tq(LONG * 35, ["She ran.", LONG], [1, 0]), tq("many", [f"answer {i}" for i in range(13)], [1] * 6 + [0] * 7)])
def wg(sentence, a, b, answer): return {"sentence": sentence, "option1": a, "option2": b, "answer": answer}
write("winogrande_validation", [wg("_ ran.", "Al", "Bo", "1"), wg("Two _ and _ marks.", "x", "y", "2"), wg("Ends in _ .", "a cup", "a box", "1"), wg("Blank before  _  and behind  ", " a", "b ", "2"), wg("Été: le _\nest ici.", "café", "cafe\u0301", "1"), wg("same _ same.", "x", "x", "2"), wg("彼_は tea 茶。", "女", "ら", "1"), wg(LONG * 40 + "She met _ there.", "Tim", "Zq", "2"), wg("'_' was \"too\" big.", "it's", "\"q\"", "2")])
write("winogrande_train", [wg(f"Shot {i}: the _ was {'very ' * (i % 3)}big.", f"cup {i}", f"box {i}", "12"[i % 2]) for i in range(9)] + [wg("_ ran.", "Al", "Bo", "1"), wg("same _ same.", "x", "x", "2")])
write("gsm8k_test", [{"question": q, "answer": a} for q, a in [("Once upon a time", "x\n#### 1,000."), ("Il était une fois 3 filles", "#### 2\nx\n#### $3"), (LONG * 40, "#### -4"), ("ends in blanks   ", "no mark"), ("She said \"", "#### 5.0"), ("", "#### 7"), ("日本 🙂\n\n", "#### 1/2"), ("Question: Question:", "[1]\n#### 8")]])
write("gsm8k_train", [{"question": f"Shot {i}? " + "tall " * (i % 3), "answer": f"{i}*2=<<{i}*2={2*i}>>{2*i}\n\n#### {2*i}"} for i in range(11)])
