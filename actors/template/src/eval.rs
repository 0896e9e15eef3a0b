//! Evaluates a template over a JSON value.

use serde_json::Value;

use super::parse::{Node, Operand, Pipeline};
use super::{Functions, TemplateError, functions};

/// Bytes that a template may produce: as many as two of the largest configs have.
const OUT_MAX: usize = 2 << 20;

/// Pieces of a template that may be evaluated, those in a loop once for each turn: a loop in a loop over ten labels has a
/// few hundred.
const STEPS_MAX: usize = 1_000_000;

/// Functions of the caller's own: the value of a call, or `None` for a function that the caller does not have.
pub type OwnFunctions<'a> = &'a dyn Fn(&str, &[Value]) -> Option<Result<Value, TemplateError>>;

/// The text that the template produces for `dot`.
pub(super) fn render(
    nodes: &[Node],
    functions: Functions,
    own: OwnFunctions<'_>,
    dot: &Value,
) -> Result<String, TemplateError> {
    let mut run = Run { functions, own, out: String::new(), steps: 0, variables: vec![(String::new(), dot.clone())] };
    run.nodes(nodes, dot)?;
    Ok(run.out)
}

struct Run<'a> {
    functions: Functions,
    own: OwnFunctions<'a>,
    out: String,
    /// Pieces that were evaluated.
    steps: usize,
    /// Variables in scope, the innermost last; `$` alone is the variable with the empty name.
    variables: Vec<(String, Value)>,
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        for node in nodes {
            self.steps += 1;
            if self.steps > STEPS_MAX || self.out.len() > OUT_MAX {
                return Err(too_much());
            }
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Show(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        self.out.push_str(&functions::shown(&value));
                    }
                }
                Node::If { condition, then, otherwise } => self.scoped(|run| {
                    let value = run.pipeline(condition, dot)?;
                    run.nodes(if functions::truth(&value) { then } else { otherwise }, dot)
                })?,
                Node::With { subject, then, otherwise } => self.scoped(|run| {
                    let value = run.pipeline(subject, dot)?;
                    if functions::truth(&value) { run.nodes(then, &value) } else { run.nodes(otherwise, dot) }
                })?,
                Node::Range { over, body, otherwise } => self.range(over, body, otherwise, dot)?,
            }
        }
        Ok(())
    }

    fn range(&mut self, over: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<(), TemplateError> {
        let subject = self.commands(over, dot)?;
        let pairs: Vec<(Value, Value)> = match subject {
            Value::Array(items) => items.into_iter().enumerate().map(|(at, item)| (Value::from(at), item)).collect(),
            Value::Object(map) => {
                let mut pairs: Vec<_> = map.into_iter().collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                pairs.into_iter().map(|(key, item)| (Value::from(key), item)).collect()
            }
            Value::Null => Vec::new(),
            other => return Err(TemplateError(format!("range cannot go over {}", functions::kind(&other)))),
        };
        if pairs.is_empty() {
            return self.scoped(|run| run.nodes(otherwise, dot));
        }
        for (key, item) in pairs {
            self.scoped(|run| {
                match over.variables.as_slice() {
                    [value] => run.variables.push((value.clone(), item.clone())),
                    [name, value] => {
                        run.variables.push((name.clone(), key));
                        run.variables.push((value.clone(), item.clone()));
                    }
                    _ => (),
                }
                run.nodes(body, &item)
            })?;
        }
        Ok(())
    }

    /// Runs `work` in a scope of its own: variables declared inside are dropped afterwards.
    fn scoped(&mut self, work: impl FnOnce(&mut Self) -> Result<(), TemplateError>) -> Result<(), TemplateError> {
        let depth = self.variables.len();
        let result = work(self);
        self.variables.truncate(depth);
        result
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let value = self.commands(pipeline, dot)?;
        if let Some(name) = pipeline.variables.first() {
            if pipeline.declares {
                self.variables.push((name.clone(), value.clone()));
            } else {
                let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
                known.ok_or_else(|| unknown_variable(name))?.1 = value.clone();
            }
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut piped = None;
        for command in &pipeline.commands {
            piped = Some(self.command(command, piped, dot)?);
        }
        Ok(piped.unwrap_or(Value::Null))
    }

    fn command(&mut self, command: &[Operand], piped: Option<Value>, dot: &Value) -> Result<Value, TemplateError> {
        let Some((first, rest)) = command.split_first() else { return Ok(Value::Null) };
        if let Operand::Function(name) = first {
            let mut arguments = rest.iter().map(|operand| self.operand(operand, dot)).collect::<Result<Vec<_>, _>>()?;
            arguments.extend(piped);
            return self.call(name, &arguments);
        }
        if !rest.is_empty() || piped.is_some() {
            return Err(TemplateError(format!("{first:?} is no function and takes no arguments")));
        }
        self.operand(first, dot)
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
        let value = (self.own)(name, arguments).unwrap_or_else(|| functions::call(self.functions, name, arguments))?;
        match &value {
            Value::String(text) if text.len() > OUT_MAX => Err(too_much()),
            _ => Ok(value),
        }
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        match operand {
            Operand::Field(names) => field(dot, names),
            Operand::Variable(name, names) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                field(&known.ok_or_else(|| unknown_variable(name))?.1, names)
            }
            Operand::Function(name) => self.call(name, &[]),
            Operand::Text(text) => Ok(Value::from(text.as_str())),
            Operand::Integer(number) => Ok(Value::from(*number)),
            Operand::Float(number) => Ok(Value::from(*number)),
            Operand::Boolean(value) => Ok(Value::from(*value)),
            Operand::Nil => Ok(Value::Null),
            Operand::Inner(pipeline, names) => field(&self.pipeline(pipeline, dot)?, names),
        }
    }
}

fn too_much() -> TemplateError {
    TemplateError("the template produces too much".into())
}

fn unknown_variable(name: &str) -> TemplateError {
    TemplateError(format!("undefined variable ${name}"))
}

fn field(value: &Value, names: &[String]) -> Result<Value, TemplateError> {
    let mut value = value;
    for name in names {
        value = match value {
            Value::Object(map) => {
                map.get(name).ok_or_else(|| TemplateError(format!("there is no field {name} here")))?
            }
            other => return Err(TemplateError(format!("there is no field {name} in {}", functions::kind(other)))),
        };
    }
    Ok(value.clone())
}
