//! A flylet, and what the tests ask of it.

use std::collections::BTreeMap;
use std::time::Duration;

use midge_flylet::{FAULT_HEADER, Fault, Flylet, FlyletSettings};
use midge_machines::wire::LEASE_NONCE_HEADER;
use midge_machines::{FlyMachines, Launch, MachineSpec, Machines, SeenState};
use midge_protocol::manifest::MachineSize;
use midge_protocol::{MachineId, MachineName, Secret};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub const DEADLINE: Duration = Duration::from_secs(60);

/// A flylet, the client for it, and a way to say what the client never would.
pub struct Bed {
    pub flylet: Flylet,
    pub machines: FlyMachines,
}

impl Bed {
    pub async fn new() -> Bed {
        Bed::with(FlyletSettings::new("jobs")).await
    }

    pub async fn with(settings: FlyletSettings) -> Bed {
        let flylet = Flylet::start(settings).await.unwrap();
        let machines = FlyMachines::new(flylet.client_settings()).unwrap();
        Bed { flylet, machines }
    }

    pub async fn launched(&self, name: &str, script: &str) -> MachineId {
        let id = self.machines.create(&spec(name, script), Launch::Now).await.unwrap();
        self.machines.wait(&id, SeenState::Started, DEADLINE).await.unwrap();
        id
    }

    pub async fn reaches(&self, id: &MachineId, state: SeenState) {
        self.machines.wait(id, state, DEADLINE).await.unwrap();
    }

    /// Waits until a Machine has written a line, and returns all it wrote.
    pub async fn wrote(&self, id: &MachineId, line: &str) -> Vec<String> {
        let wrote = self.flylet.log_with(id, line);
        tokio::time::timeout(DEADLINE, wrote).await.expect("the Machine writes the line")
    }

    pub async fn call(&self, line: &str, body: &str) -> (u16, Value) {
        self.call_as(self.flylet.token(), line, body).await
    }

    pub async fn call_as(&self, token: &Secret, line: &str, body: &str) -> (u16, Value) {
        let (status, _, body) = self.asked(token, line, &[], body).await;
        (status, body)
    }

    /// Makes a call that meets a fault.
    pub async fn call_with(&self, fault: Fault, line: &str, body: &str) -> (u16, Value) {
        let (status, _, body) =
            self.asked(self.flylet.token(), line, &[(FAULT_HEADER, fault.as_str())], body).await;
        (status, body)
    }

    /// Makes a call as one who has a lease.
    pub async fn call_holding(&self, nonce: &str, line: &str, body: &str) -> (u16, Value) {
        let headers = [(LEASE_NONCE_HEADER, nonce)];
        let (status, _, body) = self.asked(self.flylet.token(), line, &headers, body).await;
        (status, body)
    }

    /// Makes a call and returns status, head and body of its answer; status 0 where there is none.
    pub async fn asked(
        &self,
        token: &Secret,
        line: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, String, Value) {
        let address = self.flylet.url().replace("http://", "");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: flylet\r\nauthorization: Bearer {}\r\nconnection: close\r\n{more}content-length: {}\r\n\r\n{body}",
            token.expose(),
            body.len(),
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { return (0, answer, Value::Null) };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Returns the path of a Machine's calls.
    pub fn path(id: &MachineId) -> String {
        format!("/v1/apps/jobs/machines/{id}")
    }
}

pub fn spec(name: &str, script: &str) -> MachineSpec {
    MachineSpec {
        name: MachineName::new(name).unwrap(),
        region: Some("iad".to_owned()),
        image: "registry.example/app:v1".to_owned(),
        exec: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: BTreeMap::from([("MIDGE_QUEUE".to_owned(), "default".to_owned())]),
        size: MachineSize { memory_mib: 512, ..MachineSize::default() },
        has_secrets: false,
        metadata: BTreeMap::from([("midge_app".to_owned(), "test".to_owned())]),
    }
}

/// Waits until a process has ended.
pub async fn ends(pid: &str) {
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    let ended = tokio::task::spawn_blocking(move || {
        let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return true };
        let deadline = Timespec::try_from(DEADLINE).unwrap();
        rustix::event::poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&deadline)).unwrap() == 1
    });
    assert!(ended.await.unwrap(), "the process ends");
}

pub const ENDLESS: &str = "exec sleep 86400";
