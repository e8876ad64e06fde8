//! An axum app that makes thumbnails in the background, with midge inside.
//!
//! On a laptop, after `midge build guest-examples` and with the host built (`midge demo` does both):
//!
//! ```console
//! $ MIDGE_HOST=target/host/midge-host cargo run -p midge --example app
//! $ curl --data-binary @photo.jpg 'http://127.0.0.1:8080/photos?width=320'
//! $ curl 'http://127.0.0.1:8080/thumbnails/JOB' > small.jpg
//! ```
//!
//! On Fly, `fly.toml` and `Dockerfile` at the top of the repository are this app's.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, body::Bytes};
use midge_flylet::{Flylet, FlyletSettings};
use midge_machines::own::{Model, OwnMachine};
use midge_machines::{FlyMachines, FlySettings};
use midge_protocol::api::EnqueueRequest;
use midge_protocol::{JobId, ModuleName, Secret, limits};
use midge_server::{Access, Catalog, ConnectionLimits, Connections, Fork, Midge, Retention, Settings};
use midge_store::SqliteStore;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let config = Config::from_env()?;
    let listener = TcpListener::bind(&config.listen).await.context(config.listen.clone())?;

    // Three lines start it: a store, the Machines, the server.
    let store = Arc::new(SqliteStore::open(&config.db)?);
    let (machines, fork, _flylet) = machines(&config, listener.local_addr()?.port()).await?;
    let midge = Midge::start(store, Arc::new(machines), config.settings(fork)?).await?;

    let app = Router::new()
        .route("/photos", post(upload))
        .route("/thumbnails/{job}", get(thumbnail))
        .layer(DefaultBodyLimit::max(limits::INPUT_BYTES_MAX))
        .with_state(midge.clone())
        // One line mounts the API and the dashboard.
        .nest("/midge", midge.router());
    tracing::info!("listening on http://{}", listener.local_addr()?);
    let connections = Connections::new(ConnectionLimits::of_this_process());
    midge_server::serve(listener, app, connections, stop_asked()).await;
    midge.shutdown().await;
    Ok(())
}

#[derive(serde::Deserialize)]
struct Upload {
    width: u32,
}

async fn upload(
    State(midge): State<Midge>,
    Query(upload): Query<Upload>,
    photo: Bytes,
) -> Result<String, Failed> {
    let resize = EnqueueRequest::new(ModuleName::new("resize")?)
        .args(&serde_json::json!({ "width": upload.width }))?
        .input(photo);
    Ok(format!("{}\n", midge.enqueue(resize).await?.id))
}

async fn thumbnail(State(midge): State<Midge>, Path(job): Path<String>) -> Result<Bytes, Failed> {
    let job: JobId = job.parse()?;
    Ok(midge.result(job, Duration::from_secs(20)).await?)
}

struct Failed(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> axum::response::Response {
        (StatusCode::BAD_REQUEST, format!("{:#}\n", self.0)).into_response()
    }
}

/// What the environment says: on Fly, `fly.toml` and the app's secrets.
struct Config {
    listen: String,
    db: PathBuf,
    modules: PathBuf,
    host: String,
    token: Option<Secret>,
    fly: Option<Fly>,
}

struct Fly {
    /// The Machines API, for the app whose Machines run the jobs.
    api: FlySettings,
    /// What Fly tells this Machine about itself.
    own: OwnMachine,
}

impl Config {
    fn from_env() -> Result<Config> {
        let var = |name: &str| env::var(name).ok();
        let or = |name: &str, default: &str| var(name).unwrap_or_else(|| default.to_owned());
        let fly = match var("FLY_API_TOKEN") {
            None => None,
            Some(token) => {
                let own = OwnMachine::told(var);
                let app = own.app.clone().context("FLY_APP_NAME is not set")?;
                let api = FlySettings {
                    base_url: or("FLY_FLAPS_BASE_URL", FlySettings::BASE_URL_DEFAULT),
                    app: or("MIDGE_FLY_APP", &app),
                    token: Secret::new(token),
                };
                Some(Fly { api, own })
            }
        };
        Ok(Config {
            listen: or("MIDGE_LISTEN", "127.0.0.1:8080"),
            db: or("MIDGE_DB", "midge.db").into(),
            modules: or("MIDGE_MODULES", "guest-examples/target/midge").into(),
            // A Machine's program is named by its absolute path.
            host: std::path::absolute(or("MIDGE_HOST", "/usr/local/bin/midge-host"))?.display().to_string(),
            token: var("MIDGE_TOKEN").map(Secret::new),
            fly,
        })
    }

    fn settings(&self, fork: Fork) -> Result<Settings> {
        let mut catalog = Catalog::open(&self.modules)?;
        if self.fly.is_some() {
            catalog.generation = fork.generation();
        }
        let loopback = self.listen.starts_with("127.0.0.1:");
        let access = match &self.token {
            Some(token) => Access::Token(token.clone()),
            None if loopback => Access::Loopback,
            None => anyhow::bail!("set MIDGE_TOKEN: {} is not loopback", self.listen),
        };
        Ok(Settings { catalog, fork, access, retention: Retention::default() })
    }
}

/// Fly's Machines where there is a token for them, else a flylet in this process.
async fn machines(config: &Config, port: u16) -> Result<(FlyMachines, Fork, Option<Flylet>)> {
    let fork = |model: Model, ways: Vec<String>| {
        let urls: Vec<String> = ways.iter().map(|way| format!("{way}/midge")).collect();
        Fork::like(model, vec![config.host.clone()], urls.join(",")).context("FLY_IMAGE_REF is not set")
    };
    match &config.fly {
        Some(fly) => {
            // Machines are like this one: its image, size and region, and the env that fly.toml declares.
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            let model = Model::find(&fly.own, &fly.api, cpus.try_into()?).await;
            Ok((FlyMachines::new(fly.api.clone())?, fork(model, fly.own.ways(port))?, None))
        }
        None => {
            let flylet = Flylet::start(FlyletSettings::new("app")).await?;
            let machines = FlyMachines::new(flylet.client_settings())?;
            let model = Model { image: Some("local".to_owned()), ..Model::default() };
            Ok((machines, fork(model, vec![format!("http://127.0.0.1:{port}")])?, Some(flylet)))
        }
    }
}

async fn stop_asked() {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .expect("a handler for SIGTERM can be installed");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
