//! What the kernel's security modules are told of a service: `security_opt` and `credential_spec`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use essaim_docker::container::{AppArmor, CredentialSpec, Privileges, SeLinuxContext, Seccomp};

use super::Builder;
use crate::at::At;
use crate::fault::{Fault, FaultKind, Outcome, Weight};

impl Builder<'_> {
    pub(super) fn privileges(&mut self, service: &At<'_>) -> Outcome<Privileges> {
        let mut made = Privileges { credential_spec: credentials(service)?, ..Privileges::default() };
        for (at, option) in service.items("security_opt").iter().zip(service.texts("security_opt")?) {
            let (name, value) = option.split_once(['=', ':']).unwrap_or((option.as_str(), ""));
            match (name, value) {
                ("no-new-privileges", "" | "true") => made.no_new_privileges = true,
                ("no-new-privileges", "false") => made.no_new_privileges = false,
                ("seccomp", "unconfined") => {
                    made.seccomp = Some(Seccomp { mode: "unconfined".into(), ..Seccomp::default() })
                }
                ("seccomp", "builtin") => (),
                ("seccomp", file) => made.seccomp = Some(self.seccomp(at, file)?),
                ("apparmor", "unconfined") => made.app_armor = Some(AppArmor { mode: "disabled".into() }),
                ("label", value) => {
                    let context = made.selinux_context.get_or_insert_default();
                    match value.split_once([':', '=']) {
                        None if value == "disable" => context.disable = true,
                        Some(("user", user)) => user.clone_into(&mut context.user),
                        Some(("role", role)) => role.clone_into(&mut context.role),
                        Some(("type", kind)) => kind.clone_into(&mut context.kind),
                        Some(("level", level)) => level.clone_into(&mut context.level),
                        _ => self.unknown(at, &option),
                    }
                }
                ("credentialspec", value) => {
                    let (kind, value) = value.split_once("://").unwrap_or(("file", value));
                    let spec = made.credential_spec.get_or_insert_default();
                    match kind {
                        "registry" => value.clone_into(&mut spec.registry),
                        _ => value.clone_into(&mut spec.file),
                    }
                }
                _ => self.unknown(at, &option),
            }
        }
        if made.selinux_context == Some(SeLinuxContext::default()) {
            made.selinux_context = None;
        }
        Ok(made)
    }

    fn unknown(&mut self, at: &At<'_>, option: &str) {
        let why = format!("Docker's API for services has no setting for {option:?}");
        self.notice(at, Weight::Ignored, why, "it knows no-new-privileges, seccomp, apparmor=unconfined and label");
    }

    /// The seccomp profile in a file, which the request carries.
    fn seccomp(&mut self, at: &At<'_>, file: &str) -> Outcome<Seccomp> {
        let folder = crate::source::folder(&at.node.place.file);
        let path = crate::source::join(self.source, folder, file);
        match self.source.read(&path) {
            Ok(Some(profile)) => {
                let profile = BASE64_STANDARD.encode(profile);
                Ok(Seccomp { mode: "custom".into(), profile })
            }
            Ok(None) | Err(_) => {
                let cause = format!("there is no file {path}");
                let way_out = "name the file with the profile, or write seccomp=unconfined";
                Err(Fault::new(FaultKind::File, &at.node.place, &at.path, cause, way_out))
            }
        }
    }
}

fn credentials(service: &At<'_>) -> Outcome<Option<CredentialSpec>> {
    let Some(at) = service.at("credential_spec") else { return Ok(None) };
    let given: Vec<_> = ["config", "file", "registry"].into_iter().filter(|key| at.at(key).is_some()).collect();
    if let [first, second, ..] = given.as_slice() {
        let cause = format!("invalid credential spec: cannot specify both {first} and {second}");
        return Err(Fault::new(FaultKind::Conflict, &at.node.place, at.path, cause, "keep one of them"));
    }
    let text = |key: &str| at.text(key).map(Option::unwrap_or_default);
    Ok(Some(CredentialSpec { config: text("config")?, file: text("file")?, registry: text("registry")? }))
}
