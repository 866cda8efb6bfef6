//! Fields of a query: `name=value`, joined by ampersands, with percent encoding (WHATWG URL, section 5).

use super::problem::ApiProblem;
use super::routes::Field;

/// The fields of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct QueryFields(Vec<(&'static str, String)>);

impl QueryFields {
    /// The fields in `query`, each once and one of `known`.
    pub(super) fn parse(query: &str, known: &[Field]) -> Result<Self, ApiProblem> {
        let mut fields: Vec<(&'static str, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some((name, value)) = decoded(name).zip(decoded(value)) else {
                return Err(ApiProblem::new(400, "the query is not UTF-8 in percent encoding"));
            };
            let Some(field) = known.iter().find(|field| field.name == name) else {
                let known: Vec<&str> = known.iter().map(|field| field.name).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let text = format!("unknown field of the query; there are: {known}");
                return Err(ApiProblem::new(400, text));
            };
            if fields.iter().any(|(other, _)| *other == field.name) {
                return Err(ApiProblem::new(400, format!("{} comes twice", field.name)));
            }
            fields.push((field.name, value));
        }
        Ok(Self(fields))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// A number from `min` to `max`, or `default` if it is not there.
    pub(super) fn number(
        &self,
        name: &str,
        (min, max): (u64, u64),
        default: u64,
    ) -> Result<u64, ApiProblem> {
        let Some(text) = self.get(name) else { return Ok(default) };
        let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number: Option<u64> = text.parse().ok().filter(|_| is_digits);
        number
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| ApiProblem::new(400, format!("{name} is a number from {min} to {max}")))
    }

    /// A truth value, false if it is not there.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiProblem> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ApiProblem::new(400, format!("{name} is true or false"))),
        }
    }
}

/// The text that `text` encodes.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(16 * high + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// `text` as a value of a query.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_from_its_encoding() {
        for text in ["", "a b", "100%", "ä+&=?#", "a/b"] {
            assert_eq!(decoded(&encoded(text)).as_deref(), Some(text));
        }
        assert_eq!(decoded("a+b%2Bc%c3%A4").as_deref(), Some("a b+cä"));
        for bad in ["%", "%1", "%zz", "%+1", "%ff", "%é"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }

    #[test]
    fn fields_are_known_and_come_once() {
        let known = [Field::number("limit", "", 1, 10), Field::text("label", "", 9)];
        let parse = |query: &str| QueryFields::parse(query, &known);
        let fields = parse("limit=3&label=a%20b&").unwrap();
        assert_eq!(fields.get("label"), Some("a b"));
        assert_eq!(fields.number("limit", (1, 10), 7), Ok(3));
        assert_eq!(parse("").unwrap().number("limit", (1, 10), 7), Ok(7));
        for bad in ["limit=0", "limit=11", "limit=", "limit=%2B1", "limit=99999999999999999999"] {
            assert!(parse(bad).unwrap().number("limit", (1, 10), 7).is_err(), "{bad}");
        }
        for bad in ["x=1", "limit=1&limit=1", "label=%ff"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
