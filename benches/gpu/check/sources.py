"""Which tests of the GPU module use a card: read from their sources, so that no list can be out of date."""

import re

# The functions of `src/gpu/testing.rs` that open one.
OPENERS = ("on_devices", "on_devices_once", "device")
FUNCTION = re.compile(r"^\s*(?:pub(?:\(crate\))? )?fn (\w+)", re.M)
TESTS = re.compile(r"^#\[cfg\(test\)\]\nmod (\w+) \{$", re.M)


def functions(text):
    """(name, whether it is a test, its text) of the functions of a file, in order."""
    found = list(FUNCTION.finditer(text))
    for at, match in enumerate(found):
        end = found[at + 1].start() if at + 1 < len(found) else len(text)
        before = text[:match.start()].rstrip().splitlines()
        attributes = []
        while before and not before[-1].rstrip().endswith(("}", ";", "{")):
            attributes.append(before.pop().strip())
        yield match.group(1), "#[test]" in attributes, text[match.end():end]


def calls(body, names):
    return any(re.search(rf"\b{name}(?:::<[^>]*>)?\(", body) for name in names)


def tests_of(text):
    """Names of the tests of a file that reach a card, and of those that do not."""
    all_of = list(functions(text))
    opening = set(OPENERS)
    # Functions of the file through which a test opens one.
    while True:
        more = {n for n, is_test, body in all_of if not is_test and calls(body, opening)} - opening
        if not more:
            break
        opening |= more
    tests = [(name, calls(body, opening)) for name, is_test, body in all_of if is_test]
    return [n for n, card in tests if card], [n for n, card in tests if not card]


def card_tests(root):
    """Their names as the test program lists them: `gpu::ops::norm::tests::…`, sorted by file."""
    found = []
    for path in sorted((root / "src/gpu").rglob("*.rs")):
        relative = path.relative_to(root / "src")
        # The emulation is a crate of its own; the helpers hold no tests.
        if relative.parts[1] == "emu" or relative.name == "testing.rs":
            continue
        text = path.read_text(encoding="utf-8")
        module = list(relative.with_suffix("").parts)
        if module[-1] == "mod":
            module.pop()
        inline = TESTS.search(text)
        if inline:
            text, module = text[inline.end():], [*module, inline.group(1)]
        found += ["::".join([*module, name]) for name in tests_of(text)[0]]
    return found


def families(root):
    """Decoders with golden numbers, one folder each."""
    return sorted(path.name for path in (root / "tests/golden/families").iterdir() if path.is_dir())
