//! A Redis Cluster: masters without replicas, each a real process, on ports of their own.

use redis::FromRedisValue;
use weft::queue::redis::Keys;

use crate::RedisServer;
use crate::redis_server::{Keep, free_port};
use crate::wait::eventually;

const SLOTS: usize = 16384;

/// Keys that one node of a Cluster has.
#[must_use]
pub fn keys() -> Keys {
    let key = |rest: &str| format!("{{o2ims}}:{rest}");
    Keys {
        events: key("events"),
        deliveries: key("deliveries"),
        retry: key("retry"),
        dead_letters: key("dlq"),
        ..Keys::default()
    }
}

/// The masters.
pub struct Cluster {
    /// Each has as many slots as the others, in this order.
    pub nodes: Vec<RedisServer>,
}

impl Cluster {
    /// So many masters that keep what they are told; waits until all agree who has which slots.
    pub async fn start(count: usize) -> Cluster {
        Cluster::with(count, &[]).await
    }

    /// The same with more words on their command lines.
    pub async fn with(count: usize, options: &[&str]) -> Cluster {
        let mut nodes = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..count {
            // The port of the bus is that of the server and 10,000 unless it is said, which may be none.
            let bus = free_port().to_string();
            let mut words = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "5000", "--cluster-port", &bus];
            words.extend(options);
            nodes.push(RedisServer::with(Keep::All, &words).await);
            buses.push(bus);
        }
        for (at, node) in nodes.iter().enumerate() {
            let (first, last) = (SLOTS * at / count, SLOTS * (at + 1) / count - 1);
            let _: String = node.run(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            let _: String = node.run(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]).await;
            if at > 0 {
                let port = nodes[0].port().to_string();
                let _: String = node.run(&["CLUSTER", "MEET", "127.0.0.1", &port, &buses[0]]).await;
            }
        }
        let cluster = Cluster { nodes };
        cluster.until_whole().await;
        cluster
    }

    /// `redis+cluster://…`, naming the first node only.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+cluster://127.0.0.1:{}", self.nodes[0].port())
    }

    /// Waits until every node knows all others and says that all is well.
    pub async fn until_whole(&self) {
        for node in &self.nodes {
            eventually("the Cluster is whole", || async {
                let info: String = node.run(&["CLUSTER", "INFO"]).await;
                let nodes: String = node.run(&["CLUSTER", "NODES"]).await;
                let knows_all = nodes.lines().filter(|line| line.contains("master") && !line.contains("fail")).count();
                (info.contains("cluster_state:ok") && knows_all == self.nodes.len()).then_some(())
            })
            .await;
        }
    }

    /// Starts a replica of this node, waits until it has what its master has, and returns its number.
    pub async fn replica_of(&mut self, node: usize, options: &[&str]) -> usize {
        let bus = free_port().to_string();
        let mut words = vec!["--cluster-enabled", "yes", "--cluster-port", &bus];
        words.extend(options);
        let replica = RedisServer::with(Keep::All, &words).await;
        let port = replica.port().to_string();
        let master = &self.nodes[node];
        let _: String = master.run(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        let id: String = master.run(&["CLUSTER", "MYID"]).await;
        eventually("it is a replica", || async {
            let nodes: String = replica.run(&["CLUSTER", "NODES"]).await;
            if !nodes.contains(&id) {
                return None;
            }
            let _: String = replica.run(&["CLUSTER", "REPLICATE", &id]).await;
            Some(())
        })
        .await;
        eventually("it has all, and everybody knows it", || async {
            let info: String = replica.run(&["INFO", "replication"]).await;
            let mut knowing = 0;
            for node in &self.nodes {
                let nodes: String = node.run(&["CLUSTER", "NODES"]).await;
                knowing += usize::from(nodes.lines().any(|line| line.contains("slave") && line.contains(&id)));
            }
            (info.contains("master_link_status:up") && knowing == self.nodes.len()).then_some(())
        })
        .await;
        self.nodes.push(replica);
        self.nodes.len() - 1
    }

    /// Which node has a key now.
    pub async fn owner(&self, key: &str) -> usize {
        let slot: u16 = self.nodes[0].run(&["CLUSTER", "KEYSLOT", key]).await;
        for (at, node) in self.nodes.iter().enumerate() {
            let ranges: Vec<redis::Value> = node.run(&["CLUSTER", "SLOTS"]).await;
            let has = |range: &redis::Value| {
                let parts = range.as_sequence()?;
                let number = |at: usize| u16::from_redis_value(parts[at].clone()).ok();
                let owner: Vec<redis::Value> = Vec::from_redis_value(parts[2].clone()).ok()?;
                let port = u16::from_redis_value(owner[1].clone()).ok()?;
                Some((number(0)?..=number(1)?).contains(&slot) && port == node.port())
            };
            if ranges.iter().filter_map(has).any(|has| has) {
                return at;
            }
        }
        panic!("nobody has {key}");
    }

    /// Moves the slot of a key, with all that is in it, to another node, as `redis-cli --cluster reshard` does.
    pub async fn move_slot_of(&self, key: &str, to: usize) {
        let from = self.owner(key).await;
        let slot: u16 = self.nodes[0].run(&["CLUSTER", "KEYSLOT", key]).await;
        let slot = slot.to_string();
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let (source_id, target_id): (String, String) =
            (source.run(&["CLUSTER", "MYID"]).await, target.run(&["CLUSTER", "MYID"]).await);
        let _: String = target.run(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]).await;
        let _: String = source.run(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]).await;
        loop {
            let keys: Vec<String> = source.run(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]).await;
            let Some(key) = keys.first() else { break };
            let port = target.port().to_string();
            let _: String = source.run(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
        }
        for node in [target, source].into_iter().chain(&self.nodes) {
            let _: String = node.run(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]).await;
        }
    }
}
