//! What secrets and configs have in common on the wire: their data may be a template.

use crate::network::Driver;
use essaim_model::{Payload, Refusal, RefusalKind};

/// The template driver of Swarm, and the only one.
const GOLANG: &str = "golang";

/// Parses the data of a secret or config, and whether they are a template.
pub(crate) fn read(data: Vec<u8>, templating: Option<Driver>) -> Result<Payload, Refusal> {
    match templating {
        None => Ok(data.into()),
        Some(driver) if driver.name == GOLANG => Ok(Payload::template(data)),
        Some(driver) => {
            let text = format!("--template-driver is not supported with {:?}: the only one is {GOLANG}", driver.name);
            Err(Refusal::new(RefusalKind::Unsupported, text))
        }
    }
}

/// The template driver of a payload.
pub(crate) fn templating(payload: &Payload) -> Option<Driver> {
    payload.is_template().then(|| Driver { name: GOLANG.into(), ..Driver::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_keeps_its_driver_and_another_driver_is_refused_by_its_name() {
        let driver = |name: &str| Some(Driver { name: name.into(), ..Driver::default() });
        let payload = read(b"{{.Task.Slot}}".to_vec(), driver("golang")).expect("a template");
        assert_eq!(templating(&payload), driver("golang"));
        assert_eq!(templating(&read(b"x".to_vec(), None).expect("data")), None);
        let refused = read(b"x".to_vec(), driver("jinja")).expect_err("refused").text;
        assert_eq!(refused, "--template-driver is not supported with \"jinja\": the only one is golang");
    }
}
