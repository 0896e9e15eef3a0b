//! Parser of templates: builds the tree from the lexer's fragments.

use std::iter::Peekable;
use std::vec::IntoIter;

use super::TemplateError;
use super::lex::{Fragment, Token};

/// Branches or parentheses inside each other that a template may have. Each takes some of the stack, and nobody can read
/// ten.
const DEPTH_MAX: usize = 100;

/// Tokens of one action at most: a hundred times as many as anybody writes.
const TOKENS_MAX: usize = 1_000;

/// A node of the template's tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Show(Pipeline),
    If { condition: Pipeline, then: Vec<Self>, otherwise: Vec<Self> },
    With { subject: Pipeline, then: Vec<Self>, otherwise: Vec<Self> },
    Range { over: Pipeline, body: Vec<Self>, otherwise: Vec<Self> },
}

/// A pipeline, `$a, $b := f x | g`: the value of each command is the last argument of the next.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    /// Names of the variables that the pipeline's value is given to.
    pub(super) variables: Vec<String>,
    pub(super) declares: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

/// One operand of a command.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Nil,
    Inner(Pipeline, Vec<String>),
}

/// Builds the tree of a whole template.
pub(super) fn parse(fragments: Vec<Fragment>) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { fragments: fragments.into_iter(), depth: 0 };
    match parser.block()? {
        (nodes, Ending::Template) => Ok(nodes),
        (_, Ending::End) => Err(TemplateError("{{end}} without a beginning".to_owned())),
        (_, Ending::Else(_)) => Err(TemplateError("{{else}} without a beginning".to_owned())),
    }
}

/// The action that closed a block.
enum Ending {
    Template,
    End,
    /// `{{else}}`, with the tokens that follow it in the same action (`if …`).
    Else(Vec<Token>),
}

struct Parser {
    fragments: IntoIter<Fragment>,
    /// Branches that are open.
    depth: usize,
}

impl Parser {
    fn block(&mut self) -> Result<(Vec<Node>, Ending), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(fragment) = self.fragments.next() {
            let mut tokens = match fragment {
                Fragment::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Fragment::Action(tokens) => tokens,
            };
            let keyword = match tokens.first() {
                Some(Token::Word(word)) => word.clone(),
                Some(_) => String::new(),
                None => return Err(TemplateError("an action is empty: {{}}".to_owned())),
            };
            match keyword.as_str() {
                "end" => return Ok((nodes, Ending::End)),
                "else" => return Ok((nodes, Ending::Else(tokens.split_off(1)))),
                "if" | "with" | "range" => nodes.push(self.branch(&keyword, tokens.split_off(1))?),
                "template" | "define" | "block" | "break" | "continue" => {
                    return Err(TemplateError(format!("{{{{{keyword}}}}} is not supported here")));
                }
                _ => nodes.push(Node::Show(pipeline(tokens)?)),
            }
        }
        Ok((nodes, Ending::Template))
    }

    fn branch(&mut self, keyword: &str, head: Vec<Token>) -> Result<Node, TemplateError> {
        let head = pipeline(head)?;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(too_deep());
        }
        let (body, ending) = self.block()?;
        let otherwise = match ending {
            Ending::End => Vec::new(),
            Ending::Template => return Err(TemplateError(format!("{{{{{keyword}}}}} has no {{{{end}}}}"))),
            Ending::Else(mut rest) => match rest.first() {
                // `{{else if …}}` opens a branch that shares the `{{end}}` of the first one.
                Some(Token::Word(inner)) if inner == "if" || inner == "with" => {
                    let inner = inner.clone();
                    vec![self.branch(&inner, rest.split_off(1))?]
                }
                Some(_) => return Err(TemplateError("{{else}} takes nothing but `if` or `with`".to_owned())),
                None => match self.block()? {
                    (nodes, Ending::End) => nodes,
                    _ => return Err(TemplateError(format!("{{{{{keyword}}}}} has no {{{{end}}}}"))),
                },
            },
        };
        self.depth -= 1;
        Ok(match keyword {
            "if" => Node::If { condition: head, then: body, otherwise },
            "with" => Node::With { subject: head, then: body, otherwise },
            _ => Node::Range { over: head, body, otherwise },
        })
    }
}

fn too_deep() -> TemplateError {
    TemplateError(format!("more than {DEPTH_MAX} branches or parentheses are inside each other"))
}

fn pipeline(tokens: Vec<Token>) -> Result<Pipeline, TemplateError> {
    if tokens.len() > TOKENS_MAX {
        return Err(TemplateError(format!("an action has more than {TOKENS_MAX} words")));
    }
    let mut tokens = tokens.into_iter().peekable();
    let found = pipeline_until_close(&mut tokens, 0)?;
    match tokens.next() {
        None => Ok(found),
        Some(_) => Err(TemplateError("a ) closes nothing".to_owned())),
    }
}

/// Reads a pipeline that is inside of `depth` parentheses, with the parenthesis that closes it.
fn pipeline_until_close(tokens: &mut Peekable<IntoIter<Token>>, depth: usize) -> Result<Pipeline, TemplateError> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    let (variables, declares) = declaration(tokens);
    let mut commands = vec![Vec::new()];
    while let Some(token) = tokens.peek() {
        if *token == Token::Close {
            break;
        }
        let Some(token) = tokens.next() else { break };
        let operand = match token {
            Token::Pipe => {
                commands.push(Vec::new());
                continue;
            }
            Token::Field(names) => Operand::Field(names),
            Token::Variable(name, names) => Operand::Variable(name, names),
            Token::Text(text) => Operand::Text(text),
            Token::Integer(number) => Operand::Integer(number),
            Token::Float(number) => Operand::Float(number),
            Token::Word(word) => match word.as_str() {
                "true" => Operand::Boolean(true),
                "false" => Operand::Boolean(false),
                "nil" => Operand::Nil,
                _ => Operand::Function(word),
            },
            Token::Open => {
                let found = pipeline_until_close(tokens, depth + 1)?;
                let names = match tokens.peek() {
                    Some(Token::Field(names)) if !names.is_empty() => names.clone(),
                    _ => Vec::new(),
                };
                if !names.is_empty() {
                    tokens.next();
                }
                Operand::Inner(found, names)
            }
            other => return Err(TemplateError(format!("unexpected {other:?}"))),
        };
        if let Some(command) = commands.last_mut() {
            command.push(operand);
        }
    }
    if depth > 0 && tokens.next().is_none() {
        return Err(TemplateError("a ( is not closed".to_owned()));
    }
    if commands.iter().any(Vec::is_empty) {
        return Err(TemplateError("a command is missing".to_owned()));
    }
    Ok(Pipeline { variables, declares, commands })
}

/// Reads `$x :=`, `$k, $v :=` or `$x =` in front of a pipeline.
fn declaration(tokens: &mut Peekable<IntoIter<Token>>) -> (Vec<String>, bool) {
    let ahead: Vec<Token> = tokens.clone().take(4).collect();
    let name = |token: &Token| match token {
        Token::Variable(name, names) if names.is_empty() => Some(name.clone()),
        _ => None,
    };
    let (variables, length, sign) = match ahead.as_slice() {
        [first, sign @ (Token::Declare | Token::Assign), ..] => (vec![name(first)], 2, sign),
        [first, Token::Comma, second, sign @ Token::Declare] => (vec![name(first), name(second)], 4, sign),
        _ => return (Vec::new(), false),
    };
    let Some(variables) = variables.into_iter().collect::<Option<Vec<_>>>() else { return (Vec::new(), false) };
    for _ in 0..length {
        tokens.next();
    }
    (variables, *sign == Token::Declare)
}
