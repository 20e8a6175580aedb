//! The inside of a tag, read by the grammar of Jinja2 and written anew for the engine.
//!
//! Operands of steps that the engine does not ask fuel for are put through functions of ours
//! (`guard.rs`), `~` and `%` write what Python writes, `strftime_now(…)` is ours. What is not of the
//! grammar is refused, so that nothing comes to the engine unread, and so is [`MARKUP_FILTERS`]' value where
//! it would be more than its text, also by way of a variable.

use super::guard::{DATE, HELD, PLAIN, PREFIX, REMAINDER, SIZED, STORED, TEXT};
use super::lexemes::{Kind, lexemes, rewritten};
use std::ops::Range;

/// Operations within operations, each of which is a call of the engine's compiler.
const MAX_HEIGHT: usize = 100;
/// Expressions within expressions, each of which is some calls of this reader.
const MAX_DEPTH: usize = 100;
/// Items of a list that is written out, or arguments of a call.
const MAX_ITEMS: usize = 1000;
/// Variables that hold `Markup`: every name is compared with each of them.
const MAX_MARKUP: usize = 100;
/// Bytes of a literal, and literals of a list or dictionary, that are not worth paying for.
const SHORT: usize = 1000;
const FEW: usize = 100;

/// Filters that pay themselves for what they go through.
const PAYING_FILTERS: [&str; 25] = [
    "abs",
    "center",
    "count",
    "d",
    "default",
    "e",
    "escape",
    "first",
    "float",
    "format",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "string",
    "title",
    "tojson",
    "trim",
    "truncate",
    "upper",
    "wordcount",
];
/// Filters that make a number, and those that make a text.
const COUNTING_FILTERS: [&str; 7] = [
    "abs",
    "count",
    "float",
    "int",
    "length",
    "round",
    "wordcount",
];
const WRITING_FILTERS: [&str; 15] = [
    "capitalize",
    "center",
    "e",
    "escape",
    "format",
    "indent",
    "join",
    "lower",
    "replace",
    "string",
    "title",
    "tojson",
    "trim",
    "truncate",
    "upper",
];
/// Filters whose value is `Markup` in Jinja2, which escapes the other texts in `+`, `%` and its methods, and whose
/// parts are `Markup` too. The engine's is a text like others, so such a value may be written out, asked about and
/// joined by `~`, which make it a plain text in Jinja2 as well, and be set as a variable within a scope, which is
/// such a value then, but go nowhere else.
pub(super) const MARKUP_FILTERS: [&str; 4] = ["e", "escape", "forceescape", "safe"];
/// Tests that do not go through their value.
const QUICK_TESTS: [&str; 17] = [
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "even",
    "false",
    "float",
    "integer",
    "iterable",
    "mapping",
    "none",
    "number",
    "odd",
    "sequence",
    "string",
    "true",
    "undefined",
];
const KEYWORDS: [&str; 8] = ["if", "elif", "else", "in", "and", "or", "not", "is"];

/// What is known of a value before it is worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// A number, a truth value or null.
    Small,
    /// A list or dictionary of a few literals.
    Few,
    /// A short text.
    Word,
    /// A text.
    Text,
    Any,
}

impl Size {
    fn is_text(self) -> bool {
        matches!(self, Self::Word | Self::Text)
    }

    fn is_bounded(self) -> bool {
        matches!(self, Self::Small | Self::Few | Self::Word)
    }
}

/// What makes a value `Markup` in Jinja2.
#[derive(Clone, Copy, Debug)]
enum Markup {
    /// The filter of this lexeme.
    Filter(usize),
    /// A variable that may hold such a value.
    Variable,
}

/// A part of an expression.
#[derive(Clone, Copy, Debug)]
struct Operand {
    /// Its first and last lexeme.
    first: usize,
    last: usize,
    size: Size,
    height: usize,
    markup: Option<Markup>,
}

impl Operand {
    /// The same, which may also be the value of `other`.
    fn or_markup_of(mut self, other: Self) -> Self {
        self.markup = self.markup.or(other.markup);
        self
    }

    /// Whether it is a number, a short text or the like as it stands there.
    fn is_literal(self) -> bool {
        matches!(self.size, Size::Small | Size::Word) && self.height == 1
    }
}

/// What is written for a lexeme.
#[derive(Debug, Default)]
struct Written {
    before: String,
    /// In the place of the lexeme itself.
    instead: Option<String>,
    after: String,
}

/// Reads one tag.
#[derive(Debug)]
pub(super) struct Reader<'b> {
    body: &'b str,
    lexemes: Vec<(Kind, Range<usize>)>,
    written: Vec<Written>,
    at: usize,
    depth: usize,
    /// Variables that may hold `Markup`; none may where this is absent.
    markup: Option<&'b mut Vec<String>>,
}

impl<'b> Reader<'b> {
    /// A reader of the inside of a tag.
    pub(super) fn new(body: &'b str) -> Result<Self, String> {
        let lexemes = lexemes(body)?;
        let ours = |(kind, place): &(Kind, Range<usize>)| {
            *kind == Kind::Name && body[place.clone()].starts_with(PREFIX)
        };
        if lexemes.iter().any(ours) {
            return Err(format!(
                "names that begin with `{PREFIX}` have a meaning of their own"
            ));
        }
        Ok(Self {
            written: lexemes.iter().map(|_| Written::default()).collect(),
            body,
            lexemes,
            at: 0,
            depth: 0,
            markup: None,
        })
    }

    /// The same within a scope whose variables `names` may hold `Markup`; those that the tag sets are added.
    pub(super) fn within(self, names: Option<&'b mut Vec<String>>) -> Self {
        Self {
            markup: names,
            ..self
        }
    }

    /// The first word.
    pub(super) fn name(&self) -> &'b str {
        self.lexemes
            .first()
            .map_or("", |(_, place)| &self.body[place.clone()])
    }

    /// Whether this `set` opens a block: what is set stands behind it, and not behind a `=`.
    pub(super) fn sets_block(&self) -> bool {
        let mut words = self
            .lexemes
            .iter()
            .map(|(_, place)| &self.body[place.clone()]);
        words.find(|word| matches!(*word, "=" | "|")) != Some("=")
    }

    /// How many lexemes there are.
    pub(super) fn len(&self) -> usize {
        self.lexemes.len()
    }

    /// Reads the tag as an expression that is written out.
    pub(super) fn print(mut self) -> Result<String, String> {
        self.expression(true)?;
        self.finish()
    }

    /// Reads the tag as a statement.
    pub(super) fn statement(mut self) -> Result<String, String> {
        let name = self.peek();
        self.at += 1;
        match name {
            "if" | "elif" => _ = self.expression(false)?,
            "for" => self.for_loop()?,
            "set" => self.assignment()?,
            "with" => self.with()?,
            "filter" => self.chain(true)?,
            "macro" => {
                self.variable()?;
                self.parameters()?;
            }
            "call" => {
                if self.peek() == "(" {
                    self.parameters()?;
                }
                self.expression(true)?;
            }
            "else" | "endif" | "endfor" | "endset" | "endwith" | "endmacro" | "endcall"
            | "endfilter" | "break" | "continue" => {}
            _ => {
                return Err(format!(
                    "it has the statement `{name}`, which is not known here"
                ));
            }
        }
        self.finish()
    }

    /// The tag as the engine is to read it.
    fn finish(self) -> Result<String, String> {
        if self.at < self.lexemes.len() {
            return Err(format!("`{}` is not expected where it stands", self.peek()));
        }
        let mut out = String::with_capacity(self.body.len());
        let mut at = 0;
        for ((_, place), written) in self.lexemes.iter().zip(&self.written) {
            out.push_str(&self.body[at..place.start]);
            out.push_str(&written.before);
            out.push_str(
                written
                    .instead
                    .as_deref()
                    .unwrap_or(&self.body[place.clone()]),
            );
            out.push_str(&written.after);
            at = place.end;
        }
        out.push_str(&self.body[at..]);
        Ok(out)
    }

    fn ahead(&self, n: usize) -> &'b str {
        let lexeme = self.lexemes.get(self.at + n);
        lexeme.map_or("", |(_, place)| &self.body[place.clone()])
    }

    fn peek(&self) -> &'b str {
        self.ahead(0)
    }

    fn kind(&self) -> Option<Kind> {
        self.lexemes.get(self.at).map(|(kind, _)| *kind)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.peek() == sign;
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.take(sign) {
            return Ok(());
        }
        Err(self.missing(&format!("`{sign}`")))
    }

    fn missing(&self, what: &str) -> String {
        match self.peek() {
            "" => format!("{what} is missing at the end of a tag"),
            found => format!("{what} is missing before `{found}`"),
        }
    }

    fn variable(&mut self) -> Result<(), String> {
        if self.kind() != Some(Kind::Name) || KEYWORDS.contains(&self.peek()) {
            return Err(self.missing("a name"));
        }
        self.at += 1;
        Ok(())
    }

    /// Puts an operand through a function.
    fn wrap(&mut self, operand: Operand, function: &str) {
        self.written[operand.first]
            .before
            .insert_str(0, &format!("{function}("));
        self.written[operand.last].after.push(')');
    }

    /// Lets an operand of any size be paid for.
    fn guard(&mut self, operand: Operand) {
        if !operand.size.is_bounded() {
            self.wrap(operand, SIZED);
        }
    }

    fn hold(&mut self, operand: Operand) {
        if !operand.size.is_bounded() {
            self.wrap(operand, HELD);
        }
    }

    /// An item of a list, or a value of a dictionary, which bounds how deep that is. A text is kept as it is.
    fn item(&mut self, operand: Operand) -> Result<(), String> {
        self.plain(operand)?;
        if operand.size == Size::Any {
            self.wrap(operand, SIZED);
        }
        Ok(())
    }

    /// The operand made of these lexemes.
    fn made(&self, first: usize, size: Size, height: usize) -> Result<Operand, String> {
        if height > MAX_HEIGHT {
            return Err(format!(
                "an expression has more than {MAX_HEIGHT} operations within operations"
            ));
        }
        let last = self.at - 1;
        Ok(Operand {
            first,
            last,
            size,
            height,
            markup: None,
        })
    }

    /// Refuses what is `Markup` where that goes on as such; of what may be, when it is.
    fn plain(&mut self, operand: Operand) -> Result<(), String> {
        match operand.markup {
            Some(Markup::Filter(at)) => Err(escaping(&self.body[self.lexemes[at].1.clone()])),
            Some(Markup::Variable) => {
                self.wrap(operand, PLAIN);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn both(&self, left: Operand, right: Operand, size: Size) -> Result<Operand, String> {
        self.made(left.first, size, left.height.max(right.height) + 1)
    }

    /// An expression; without `conditional` it has no `if … else` but in brackets.
    fn expression(&mut self, conditional: bool) -> Result<Operand, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!(
                "it has more than {MAX_DEPTH} expressions within expressions"
            ));
        }
        let mut value = self.either()?;
        while conditional && self.take("if") {
            let test = self.either()?;
            let mut height = value.height.max(test.height);
            let mut size = value.size;
            let mut either = value;
            if self.take("else") {
                let other = self.expression(true)?;
                height = height.max(other.height);
                size = common(size, other.size);
                either = value.or_markup_of(other);
            } else {
                size = common(size, Size::Small);
            }
            value = self
                .made(value.first, size, height + 1)?
                .or_markup_of(either);
        }
        self.depth -= 1;
        Ok(value)
    }

    fn either(&mut self) -> Result<Operand, String> {
        self.one_of("or", |this| this.one_of("and", Self::negation))
    }

    /// Operands with `word` between them, of which the whole is one.
    fn one_of(
        &mut self,
        word: &str,
        operand: impl Fn(&mut Self) -> Result<Operand, String>,
    ) -> Result<Operand, String> {
        let mut left = operand(self)?;
        while self.take(word) {
            let right = operand(self)?;
            let whole = self.both(left, right, common(left.size, right.size))?;
            left = whole.or_markup_of(left).or_markup_of(right);
        }
        Ok(left)
    }

    fn negation(&mut self) -> Result<Operand, String> {
        let first = self.at;
        while self.take("not") {}
        let signs = self.at - first;
        let value = self.comparison()?;
        if signs == 0 {
            return Ok(value);
        }
        self.made(first, Size::Small, value.height + signs)
    }

    fn comparison(&mut self) -> Result<Operand, String> {
        let mut parts = vec![self.sum()?];
        loop {
            self.at += match self.peek() {
                "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" => 1,
                "not" if self.ahead(1) == "in" => 2,
                _ => break,
            };
            parts.push(self.sum()?);
        }
        if let [only] = parts[..] {
            return Ok(only);
        }
        // Beside something small there is little to compare.
        if parts.iter().filter(|part| !part.size.is_bounded()).count() > 1 {
            for part in &parts {
                self.guard(*part);
            }
        }
        let height = parts.iter().map(|part| part.height).max().unwrap_or(0);
        self.made(parts[0].first, Size::Small, height + parts.len())
    }

    fn sum(&mut self) -> Result<Operand, String> {
        let mut left = self.joined()?;
        while let sign @ ("+" | "-") = self.peek() {
            self.at += 1;
            let right = self.joined()?;
            self.plain(left)?;
            self.plain(right)?;
            let size = if sign == "-" || (left.size, right.size) == (Size::Small, Size::Small) {
                Size::Small
            } else if left.size.is_text() || right.size.is_text() {
                Size::Text
            } else {
                self.guard(left);
                self.guard(right);
                Size::Any
            };
            left = self.both(left, right, size)?;
        }
        Ok(left)
    }

    fn joined(&mut self) -> Result<Operand, String> {
        let mut left = self.product()?;
        while self.take("~") {
            let right = self.product()?;
            for side in [left, right] {
                if !side.size.is_text() || side.markup.is_some() {
                    self.wrap(side, TEXT);
                }
            }
            left = self.both(left, right, Size::Text)?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Operand, String> {
        let mut left = self.power()?;
        while let name @ ("*" | "/" | "//" | "%") = self.peek() {
            let sign = self.at;
            self.at += 1;
            let right = self.power()?;
            self.plain(left)?;
            self.plain(right)?;
            left = match name {
                "*" => self.repetition(left, right)?,
                // Of a text it may be what is written into it.
                "%" if left.size != Size::Small
                    && (left.size.is_text() || right.size != Size::Small) =>
                {
                    self.guard(left);
                    self.guard(right);
                    self.written[sign].instead = Some(",".to_owned());
                    let size = if left.size.is_text() {
                        Size::Text
                    } else {
                        Size::Any
                    };
                    let whole = self.both(left, right, size)?;
                    self.wrap(whole, REMAINDER);
                    whole
                }
                _ => self.both(left, right, Size::Small)?,
            };
        }
        Ok(left)
    }

    /// A product; of a list it is that list many times over, which is paid for at once.
    fn repetition(&mut self, left: Operand, right: Operand) -> Result<Operand, String> {
        if (left.size, right.size) == (Size::Small, Size::Small) {
            return self.both(left, right, Size::Small);
        }
        if left.size.is_text() || right.size.is_text() {
            return self.both(left, right, Size::Text);
        }
        let whole = self.both(left, right, Size::Any)?;
        self.wrap(whole, SIZED);
        Ok(whole)
    }

    fn power(&mut self) -> Result<Operand, String> {
        let mut left = self.unary()?;
        while self.take("**") {
            let right = self.unary()?;
            left = self.both(left, right, Size::Small)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Operand, String> {
        let first = self.at;
        while self.take("-") {}
        let signs = self.at - first;
        let value = self.primary()?;
        let mut value = self.postfix(value)?;
        if signs > 0 {
            value = self.made(first, Size::Small, value.height + signs)?;
        }
        loop {
            if self.take("|") {
                value = self.filter(value)?;
            } else if self.take("is") {
                value = self.test(value)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn primary(&mut self) -> Result<Operand, String> {
        let (at, word) = (self.at, self.peek());
        let size = match self.kind() {
            Some(Kind::Text) => return self.literal(),
            Some(Kind::Number) => Size::Small,
            Some(Kind::Name) if !KEYWORDS.contains(&word) => match word {
                "true" | "false" | "none" | "True" | "False" | "None" => Size::Small,
                _ => Size::Any,
            },
            Some(Kind::Sign) if matches!(word, "(" | "[" | "{") => {
                self.at += 1;
                return match word {
                    "(" => self.parenthesis(at),
                    "[" => self.list(at, "]"),
                    _ => self.dictionary(at),
                };
            }
            _ => return Err(self.missing("an operand")),
        };
        self.at += 1;
        if word == "strftime_now" && self.peek() == "(" {
            self.written[at].instead = Some(DATE.to_owned());
        }
        let mut made = self.made(at, size, 1)?;
        let names = self.markup.as_ref();
        let holds = names.is_some_and(|names| names.iter().any(|name| name == word));
        made.markup = holds.then_some(Markup::Variable);
        Ok(made)
    }

    /// String literals, which are one if they follow each other.
    fn literal(&mut self) -> Result<Operand, String> {
        let (first, mut length) = (self.at, 0);
        while self.kind() == Some(Kind::Text) {
            length += self.peek().len();
            self.written[self.at].instead = rewritten(self.peek())?;
            self.at += 1;
        }
        let size = if length <= SHORT {
            Size::Word
        } else {
            Size::Text
        };
        self.made(first, size, 1)
    }

    /// Behind an opening parenthesis: an expression or a tuple.
    fn parenthesis(&mut self, first: usize) -> Result<Operand, String> {
        if self.take(")") {
            return self.made(first, Size::Few, 1);
        }
        let value = self.expression(true)?;
        if !self.take(",") {
            self.expect(")")?;
            let whole = self.made(first, value.size, value.height + 1)?;
            return Ok(whole.or_markup_of(value));
        }
        self.item(value)?;
        let rest = self.list(first, ")")?;
        let few = value.is_literal() && rest.size == Size::Few;
        let size = if few { Size::Few } else { Size::Any };
        self.made(first, size, rest.height.max(value.height + 1))
    }

    /// Items up to the closing bracket.
    fn list(&mut self, first: usize, close: &str) -> Result<Operand, String> {
        let (mut height, mut literal, mut count) = (1, true, 0);
        while !self.take(close) {
            let value = self.expression(true)?;
            self.item(value)?;
            height = height.max(value.height + 1);
            literal &= value.is_literal();
            count += 1;
            if self.last_of(count, close)? {
                break;
            }
        }
        self.made(first, few(literal, count), height)
    }

    fn dictionary(&mut self, first: usize) -> Result<Operand, String> {
        let (mut height, mut literal, mut count) = (1, true, 0);
        while !self.take("}") {
            let key = self.expression(true)?;
            self.plain(key)?;
            self.guard(key);
            self.expect(":")?;
            let value = self.expression(true)?;
            self.item(value)?;
            height = height.max(key.height.max(value.height) + 1);
            literal &= key.is_literal() && value.is_literal();
            count += 1;
            if self.last_of(count, "}")? {
                break;
            }
        }
        self.made(first, few(literal, count), height)
    }

    /// Behind an item: whether the bracket is closed, or else a comma stands there.
    fn last_of(&mut self, count: usize, close: &str) -> Result<bool, String> {
        if count > MAX_ITEMS {
            return Err(format!("it has more than {MAX_ITEMS} items in one bracket"));
        }
        if self.take(",") {
            return Ok(false);
        }
        self.expect(close)?;
        Ok(true)
    }

    /// Attributes, items and calls of a value.
    fn postfix(&mut self, mut value: Operand) -> Result<Operand, String> {
        let mut method = "";
        loop {
            let mut height = value.height;
            if matches!(self.peek(), "." | "[" | "(") {
                self.plain(value)?;
            }
            match self.peek() {
                "." => {
                    self.at += 1;
                    method = self.peek();
                    match self.kind() {
                        Some(Kind::Name) => {}
                        Some(Kind::Number) => self.hold(value),
                        _ => return Err(self.missing("a name")),
                    }
                    self.at += 1;
                }
                "[" => {
                    height = self.subscript(value)?;
                    method = "";
                }
                "(" => {
                    let (of_arguments, count) = self.arguments(match method {
                        "changed" => STORED,
                        _ => SIZED,
                    })?;
                    // The engine divides by their number.
                    if method == "cycle" && count == 0 {
                        return Err("`cycle` is given nothing".to_owned());
                    }
                    height = height.max(of_arguments);
                    method = "";
                }
                _ => return Ok(value),
            }
            value = self.made(value.first, Size::Any, height + 1)?;
        }
    }

    /// An item or a part of `value`; the greatest height within.
    fn subscript(&mut self, value: Operand) -> Result<usize, String> {
        self.expect("[")?;
        let mut height = value.height;
        let mut by_name = true;
        for part in 0..3 {
            if part > 0 && !self.take(":") {
                break;
            }
            by_name &= part == 0;
            if matches!(self.peek(), ":" | "]") {
                by_name = false;
                continue;
            }
            let inner = self.expression(true)?;
            self.plain(inner)?;
            self.guard(inner);
            height = height.max(inner.height);
            by_name &= inner.size == Size::Word;
        }
        self.expect("]")?;
        if !by_name {
            self.hold(value);
        }
        Ok(height)
    }

    /// Arguments, each of which goes through `function`; their greatest height and their number.
    fn arguments(&mut self, function: &str) -> Result<(usize, usize), String> {
        self.expect("(")?;
        let (mut height, mut count) = (1, 0);
        while !self.take(")") {
            let spread = self.take("**") || self.take("*");
            if !spread && self.kind() == Some(Kind::Name) && self.ahead(1) == "=" {
                self.at += 2;
            }
            let value = self.expression(true)?;
            self.plain(value)?;
            if !value.size.is_bounded() {
                self.wrap(value, function);
            }
            height = height.max(value.height);
            count += 1;
            if self.last_of(count, ")")? {
                break;
            }
        }
        Ok((height, count))
    }

    /// The name of a filter or test.
    fn dotted(&mut self) -> Result<&'b str, String> {
        if self.kind() != Some(Kind::Name) {
            return Err(self.missing("a name"));
        }
        let name = self.peek();
        self.at += 1;
        if self.peek() == "." {
            return Err(format!("`{name}.{}` is no filter or test", self.ahead(1)));
        }
        Ok(name)
    }

    /// Behind `|`.
    fn filter(&mut self, value: Operand) -> Result<Operand, String> {
        let at = self.at;
        let name = self.dotted()?;
        let makes_markup = MARKUP_FILTERS.contains(&name);
        // What is `Markup` stays as it is in these.
        if !makes_markup {
            self.plain(value)?;
        }
        if !PAYING_FILTERS.contains(&name) {
            self.guard(value);
        }
        let mut height = value.height;
        if self.peek() == "(" {
            height = height.max(self.arguments(SIZED)?.0);
        }
        let size = if COUNTING_FILTERS.contains(&name) {
            Size::Small
        } else if WRITING_FILTERS.contains(&name) {
            Size::Text
        } else {
            Size::Any
        };
        let mut made = self.made(value.first, size, height + 1)?;
        made.markup = makes_markup.then_some(Markup::Filter(at));
        Ok(made)
    }

    /// Behind `is`.
    fn test(&mut self, value: Operand) -> Result<Operand, String> {
        self.take("not");
        let name = self.dotted()?;
        if !QUICK_TESTS.contains(&name) {
            self.guard(value);
        }
        let mut height = value.height;
        let operand = match self.kind() {
            Some(Kind::Text | Kind::Number) => true,
            Some(Kind::Name) => !KEYWORDS.contains(&self.peek()),
            _ => matches!(self.peek(), "[" | "{"),
        };
        if self.peek() == "(" {
            height = height.max(self.arguments(SIZED)?.0);
        } else if operand {
            let other = self.primary()?;
            let other = self.postfix(other)?;
            self.guard(other);
            height = height.max(other.height);
        }
        self.made(value.first, Size::Small, height + 1)
    }

    /// Filters on the text of a block, the last of which may make `Markup` where that is `written` out.
    fn chain(&mut self, written: bool) -> Result<(), String> {
        let mut height = 1;
        let mut markup = None;
        loop {
            let name = self.dotted()?;
            let makes_markup = MARKUP_FILTERS.contains(&name);
            if let Some(maker) = markup.filter(|_| !makes_markup) {
                return Err(escaping(maker));
            }
            markup = makes_markup.then_some(name);
            if self.peek() == "(" {
                self.arguments(SIZED)?;
            }
            height += 1;
            if height > MAX_HEIGHT {
                return Err(format!("more than {MAX_HEIGHT} filters behind `{name}`"));
            }
            if !self.take("|") {
                return match markup.filter(|_| !written) {
                    Some(maker) => Err(escaping(maker)),
                    None => Ok(()),
                };
            }
        }
    }

    /// The parameters of a macro.
    fn parameters(&mut self) -> Result<(), String> {
        self.expect("(")?;
        let mut count = 0;
        while !self.take(")") {
            self.variable()?;
            if self.take("=") {
                let value = self.expression(true)?;
                self.plain(value)?;
            }
            count += 1;
            if self.last_of(count, ")")? {
                break;
            }
        }
        Ok(())
    }

    /// Names that are given values, up to one of `ends` or the end; whether one is an attribute.
    fn targets(&mut self, ends: &[&str]) -> Result<bool, String> {
        let (from, mut attribute) = (self.at, false);
        while self.at < self.lexemes.len() && !ends.contains(&self.peek()) {
            let name = self.kind() == Some(Kind::Name) && !KEYWORDS.contains(&self.peek());
            if !name && !matches!(self.peek(), "(" | ")" | "," | ".") {
                return Err(self.missing("a name"));
            }
            attribute |= self.peek() == ".";
            self.at += 1;
        }
        if self.at == from {
            return Err(self.missing("a name"));
        }
        Ok(attribute)
    }

    fn for_loop(&mut self) -> Result<(), String> {
        self.targets(&["in"])?;
        self.expect("in")?;
        let items = self.expression(false)?;
        self.plain(items)?;
        self.hold(items);
        if self.take("if") {
            self.expression(true)?;
        }
        self.take("recursive");
        Ok(())
    }

    fn assignment(&mut self) -> Result<(), String> {
        let (from, name) = (self.at, self.peek());
        let attribute = self.targets(&["=", "|"])?;
        let alone = self.at == from + 1;
        if self.take("|") {
            return self.chain(false);
        }
        if self.at == self.lexemes.len() {
            return Ok(());
        }
        self.expect("=")?;
        let mut count = 0;
        loop {
            let value = self.expression(true)?;
            if value.markup.is_some()
                && alone
                && count == 0
                && self.at == self.lexemes.len()
                && let Some(names) = &mut self.markup
                && names.len() < MAX_MARKUP
            {
                names.push(name.to_owned());
            } else {
                self.plain(value)?;
            }
            if attribute && value.size == Size::Any {
                self.wrap(value, STORED);
            } else {
                self.hold(value);
            }
            count += 1;
            if count > MAX_ITEMS {
                return Err(format!("it has more than {MAX_ITEMS} values in one tag"));
            }
            if !self.take(",") || self.at == self.lexemes.len() {
                return Ok(());
            }
        }
    }

    fn with(&mut self) -> Result<(), String> {
        while self.at < self.lexemes.len() {
            self.variable()?;
            self.expect("=")?;
            let value = self.expression(true)?;
            self.plain(value)?;
            self.hold(value);
            if !self.take(",") {
                break;
            }
        }
        Ok(())
    }
}

/// The refusal of a value of the filter `name` that goes on as `Markup`.
pub(super) fn escaping(name: &str) -> String {
    format!(
        "the value of `{name}` goes on into another operation, where jinja2 escapes what it is put together \
         with and this program does not: take the filter out, or join it with `~`"
    )
}

/// What a list or dictionary is that is written out, of literals only or not.
fn few(literal: bool, count: usize) -> Size {
    if literal && count <= FEW {
        Size::Few
    } else {
        Size::Any
    }
}

/// What one of two values is known to be.
fn common(a: Size, b: Size) -> Size {
    match (a, b) {
        (Size::Small, Size::Small) => Size::Small,
        (Size::Word, Size::Word) => Size::Word,
        _ if a.is_text() && b.is_text() => Size::Text,
        _ => Size::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(body: &str) -> String {
        Reader::new(body).unwrap().print().unwrap()
    }

    fn statement(body: &str) -> String {
        Reader::new(body).unwrap().statement().unwrap()
    }

    #[test]
    fn what_the_engine_pays_for_stays_as_it_is() {
        for body in [
            "message['role'] == 'user'",
            " '<|start|>' + message.role + '\\n' + content | trim ",
            "loop.index0 % 2 == 0",
            "'a' if x.y is not none and (z or not loop.last) else 'b' if q else none",
            "m.role in ['user', 'system'] and 'x' not in content",
            "{'role': 'user', 'n': -1 + 2 ** 3}",
            "raise_exception('no')",
            "x.strip().lower()",
            "x is defined and x is divisibleby 3",
        ] {
            assert_eq!(print(body), body);
        }
    }

    #[test]
    fn what_the_engine_gives_away_is_paid_for() {
        let cases = [
            ("a == b", "lions_sized(a) == lions_sized(b)"),
            ("a < 1 < b", "lions_sized(a) < 1 < lions_sized(b)"),
            ("a in b.c", "lions_sized(a) in lions_sized(b.c)"),
            ("a + b", "lions_sized(a) + lions_sized(b)"),
            ("[a] * b", "lions_sized([lions_sized(a)] * b)"),
            ("a[b]", "lions_held(a)[lions_sized(b)]"),
            ("a[0]['b'][1:]", "lions_held(lions_held(a)[0]['b'])[1:]"),
            (
                "a|sort(b)|first",
                "lions_sized(a)|sort(lions_sized(b))|first",
            ),
            ("a is in b", "lions_sized(a) is in lions_sized(b)"),
            (
                "f(a, x=b, *c)",
                "f(lions_sized(a), x=lions_sized(b), *lions_sized(c))",
            ),
            ("{a: b}", "{lions_sized(a): lions_sized(b)}"),
            ("(a, 'b')", "(lions_sized(a), 'b')"),
            ("loop.changed(a)", "loop.changed(lions_stored(a))"),
        ];
        for (body, want) in cases {
            assert_eq!(print(body), want);
        }
        assert_eq!(
            statement("for a, b in c if d"),
            "for a, b in lions_held(c) if d"
        );
        assert_eq!(statement("set a.b = c"), "set a.b = lions_stored(c)");
        assert_eq!(statement("set a = c, 'd'"), "set a = lions_held(c), 'd'");
        assert_eq!(
            statement("with a = c[1:]"),
            "with a = lions_held(lions_held(c)[1:])"
        );
    }

    #[test]
    fn texts_are_joined_and_filled_in_as_python_does() {
        let cases = [
            ("a ~ 'b' ~ 1.5", "lions_text(a) ~ 'b' ~ lions_text(1.5)"),
            ("'%s' % x", "lions_remainder('%s' , lions_sized(x))"),
            (
                "a ~ '%s|%s' % (x, y|trim) ~ b",
                "lions_text(a) ~ lions_remainder('%s|%s' , lions_sized((lions_sized(x), y|trim))) ~ lions_text(b)",
            ),
            (
                "a * b % c",
                "lions_remainder(lions_sized(lions_sized(a * b)) , lions_sized(c))",
            ),
            ("'%s' % -a.b|int", "lions_remainder('%s' , -a.b|int)"),
            (
                "strftime_now('%d') ~ 'x'",
                "lions_text(lions_strftime_now('%d')) ~ 'x'",
            ),
            (r"'\v' 'a\n'", "'\x0b' 'a\\n'"),
        ];
        for (body, want) in cases {
            assert_eq!(print(body), want);
        }
    }

    #[test]
    fn what_is_not_of_the_grammar_is_refused() {
        for body in [
            "",
            "a b",
            "a.",
            "(a",
            "a]",
            "[1 2]",
            "a if",
            "a is",
            "a |",
            "+a",
            "a; b",
            "'a",
            "{1}",
            "x|f.g",
            "f(a=)",
            "lions_sized(a)",
            "a[1, 2]",
            "not",
            "a = b",
            "loop.cycle()",
        ] {
            let read = Reader::new(body).and_then(Reader::print);
            assert!(read.is_err(), "{body}: {read:?}");
        }
        for body in [
            "include 'x'",
            "block a",
            "for a",
            "for 'a' in b",
            "set = 1",
            "macro f",
            "if a b",
            "do f()",
            "import 'x' as y",
            "autoescape true",
            "for lions_x in y",
            "",
        ] {
            let read = Reader::new(body).and_then(Reader::statement);
            assert!(read.is_err(), "{body}: {read:?}");
        }
    }

    // jinja2 3.1.6 makes another text of each than the engine, or would if the other texts had a `<`.
    #[test]
    fn what_jinja_escapes_by_is_refused_where_it_goes_on() {
        for name in MARKUP_FILTERS {
            let expressions = [
                "'<u>' + x|FILTER",
                "x|FILTER + '<u>'",
                "('a' ~ x|FILTER) + (y or x|FILTER)",
                "'<' + (x|FILTER if y else x)",
                "'<' + (x if y else x|FILTER)",
                "('<%s>'|FILTER) % x",
                "'%s' % x|FILTER",
                "'%s' % (x, y|FILTER)",
                "x|FILTER * 2",
                "x|FILTER|trim",
                "x|FILTER|string",
                "x|FILTER|indent(2)",
                "(x|FILTER)[1:]",
                "(x|FILTER).strip()",
                "((x|FILTER)).replace('<', '<<')",
                "f(x|FILTER)",
                "x|default(y|FILTER)",
                "[x|FILTER]",
                "(x|FILTER, 1)",
                "{'a': x|FILTER}",
                "{x|FILTER: 1}",
                "x[y|FILTER]",
            ];
            let statements = [
                "set y = x|FILTER",
                "set ns.y = x|FILTER",
                "set y | FILTER",
                "set y | trim | FILTER",
                "with y = x|FILTER",
                "filter FILTER | trim",
                "macro m(y=x|FILTER)",
                "for c in x|FILTER",
            ];
            let read = |body: &str, statement: bool| {
                let body = body.replace("FILTER", name);
                let reader = Reader::new(&body).unwrap();
                let read = if statement {
                    reader.statement()
                } else {
                    reader.print()
                };
                let reason = read.expect_err(&body);
                assert!(reason.contains(&format!("`{name}`")), "{body}: {reason}");
                assert!(reason.contains("`~`"), "{body}: {reason}");
            };
            for body in expressions {
                read(body, false);
            }
            for body in statements {
                read(body, true);
            }
        }
    }

    #[test]
    fn what_jinja_escapes_by_may_be_written_joined_and_asked_about() {
        for body in [
            "x|safe",
            "x|trim|e",
            "x|e|safe|escape",
            "x|safe if y else z|e",
            "'<u>' ~ x|safe ~ '</u>'",
            "('<u>' ~ x|safe) + '</u>'",
            "y or x|safe",
            "(x|safe)",
            "x|safe == 'a'",
            "'a' in x|safe",
            "'a' + ('b' if x|safe is string else 'c')",
        ] {
            print(body);
        }
        assert_eq!(statement("if x|safe"), "if lions_sized(x)|safe");
        for body in ["filter escape", "filter trim | safe"] {
            assert_eq!(statement(body), body);
        }
    }

    #[test]
    fn high_and_long_expressions_are_refused() {
        let bombs = [
            "a + ".repeat(500) + "a",
            "not ".repeat(100_000) + "a",
            "-".repeat(100_000) + "a",
            "a|trim".to_owned() + &"|trim".repeat(1000),
            "a".to_owned() + &".a".repeat(1000),
            "a".to_owned() + &"[0]".repeat(1000),
            "a if b else ".repeat(10_000) + "a",
            "a == ".repeat(1000) + "a",
            "a ** ".repeat(1000) + "a",
            "[1] * ".repeat(1000) + "1",
            "[".repeat(200) + &"]".repeat(200),
            format!("[{}]", "1,".repeat(2000)),
            format!("f({})", "1,".repeat(2000)),
            format!("{{{}}}", "1:1,".repeat(2000)),
        ];
        for bomb in bombs {
            let read = Reader::new(&bomb).and_then(Reader::print);
            assert!(read.unwrap_err().contains("more than"), "{}", &bomb[..20]);
        }
    }
}
