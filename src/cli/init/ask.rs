//! Answers from flags, and where one is missing from the person at the terminal.

use std::io::{BufRead, Write};

use crate::runtime::Stop;

/// One thing that must be known.
pub struct Question<'a> {
    /// By which it can be answered without a terminal: `--node`.
    pub flag: &'a str,
    pub text: &'a str,
    pub default: Option<String>,
    /// Why an answer cannot be taken.
    pub wrong: &'a dyn Fn(&str) -> Option<String>,
}

pub struct Asker<R, W> {
    /// Absent where nobody sits there.
    person: Option<(R, W)>,
}

impl<R: BufRead, W: Write> Asker<R, W> {
    pub fn new(person: Option<(R, W)>) -> Self {
        Self { person }
    }

    /// The answer that was given by a flag, or the person's. Without either the default, or an error that names the flag.
    pub fn answer(&mut self, given: Option<String>, question: &Question) -> Result<String, Stop> {
        if let Some(given) = given {
            return match (question.wrong)(&given) {
                // It is not shown: somebody may have written a password into it.
                Some(why) => Err(Stop::halt(format!("what {} says cannot be used", question.flag), why)),
                None => Ok(given),
            };
        }
        match (&mut self.person, &question.default) {
            (Some((input, output)), default) => ask(input, output, question, default.as_deref()),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => {
                let what = format!("{} is missing, and there is no terminal to ask at", question.flag);
                Err(Stop::halt(what, format!("add {}; `tandem init --help` explains it", question.flag)))
            }
        }
    }
}

/// Until there is an answer that can be taken.
fn ask(input: &mut impl BufRead, output: &mut impl Write, question: &Question, default: Option<&str>) -> Result<String, Stop> {
    let lost = |error: std::io::Error| Stop::halt(format!("cannot ask: {error}"), "give the answers as flags");
    loop {
        match default {
            Some(default) => write!(output, "{} [{default}]: ", question.text),
            None => write!(output, "{}: ", question.text),
        }
        .and_then(|()| output.flush())
        .map_err(lost)?;
        let mut line = String::new();
        if input.read_line(&mut line).map_err(lost)? == 0 {
            return Err(Stop::halt("the answers ended before all was known", format!("give {} as a flag", question.flag)));
        }
        let answer = match (line.trim(), default) {
            ("", Some(default)) => default,
            (answer, _) => answer,
        };
        match (question.wrong)(answer) {
            None => return Ok(answer.to_owned()),
            Some(why) => writeln!(output, "  That cannot be: {why}").map_err(lost)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(default: Option<&str>) -> Question<'_> {
        Question {
            flag: "--node",
            text: "Name",
            default: default.map(str::to_owned),
            wrong: &|text| (text.is_empty() || text.contains(' ')).then(|| "no blanks".into()),
        }
    }

    fn check(given: Option<&str>, typed: Option<&str>, default: Option<&str>, expected: Result<&str, &str>) {
        let mut shown = Vec::new();
        let person = typed.map(|typed| (typed.as_bytes(), &mut shown));
        let answer = Asker::new(person).answer(given.map(str::to_owned), &question(default));
        match (answer, expected) {
            (Ok(answer), Ok(expected)) => assert_eq!(answer, expected),
            (Err(stop), Err(words)) => assert!(stop.to_string().contains(words), "{stop}"),
            (answer, expected) => panic!("{answer:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_flag_comes_before_the_person_and_the_person_before_the_default() {
        check(Some("a"), Some("b\n"), Some("c"), Ok("a"));
        check(None, Some("b\n"), Some("c"), Ok("b"));
        check(None, Some("\n"), Some("c"), Ok("c"));
        check(None, None, Some("c"), Ok("c"));
        check(None, None, None, Err("--node is missing"));
        check(Some("a b"), None, None, Err("what --node says cannot be used"));
    }

    #[test]
    fn a_wrong_answer_is_asked_again_until_the_answers_end() {
        check(None, Some("a b\n\n b \n"), None, Ok("b"));
        check(None, Some("a b\n"), None, Err("ended"));
    }
}
