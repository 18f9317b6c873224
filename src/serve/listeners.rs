//! The sockets that a server listens on.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::http::wire::listen::{self, Purpose};
use crate::http::{App, router};

/// The sockets where the server listens.
pub(super) struct Listeners {
    main: TcpListener,
    /// Answers probes only.
    health: Option<TcpListener>,
}

impl Listeners {
    /// Takes the addresses of the configuration.
    pub(super) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let bind = async |address: SocketAddr| {
            let bound = TcpListener::bind(address).await;
            bound.with_context(|| format!("cannot listen on {address}"))
        };
        let main = bind(config.listen).await?;
        let health = match config.health_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        Ok(Self { main, health })
    }

    /// The address that everything is answered on.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.main.local_addr()
    }

    /// The address that only probes are answered on, where there is one.
    pub(super) fn health_address(&self) -> io::Result<Option<SocketAddr>> {
        self.health.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Serves until the server is told to stop, and then what is still under way.
    pub(super) async fn serve(self, app: App) {
        let (stopping, mut bounds) = (app.stopping.clone(), app.limits.connections.clone());
        listen::make_room(&mut bounds);
        let router = router(app);
        let serve = async |listener, purpose| {
            listen::serve(listener, router.clone(), bounds.clone(), purpose, stopping.clone())
                .await;
        };
        let health = async {
            if let Some(listener) = self.health {
                serve(listener, Purpose::Probes).await;
            }
        };
        tokio::join!(serve(self.main, Purpose::Everything), health);
    }
}
