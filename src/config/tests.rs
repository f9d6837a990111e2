use super::*;

fn refusal(text: &str) -> String {
    match Config::from_toml(text, "p.toml").and_then(|config| config.validate()) {
        Ok(()) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_empty_file_is_the_default_and_the_default_is_valid() {
    let config = Config::from_toml("", "p.toml").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.validate(), Ok(()));
    let ports: Vec<u16> =
        config.nodes().iter().map(|&node| config.listen(node).unwrap().port()).collect();
    assert_eq!(ports, [8080, 8081, 8082, 9001, 9002, 9003, 8000, 8090]);
}

#[test]
fn every_key_reaches_its_field() {
    let text = r#"
        [net]
        host = "127.0.0.9"
        external = 1
        broker = "2"
        core = "[::1]:3"
        shards = [4, "127.0.0.1:5"]
        aggregator = 6
        [data]
        dir = "/d"
        segment_bytes = 65536
        durability = "batch"
        sync_interval = "2ms"
        [partition]
        by = "range"
        ranges = ["A-A", "B-~"]
        [external]
        tapes = ["a", "b"]
        align = "start"
        allow_torn = true
        speed = "max"
        loop = true
        seed = 9
        chaos = "refuse=0.1,stall=0.3"
        [broker]
        ring_frames = 64
        send_buffer_bytes = 0
        notsent_lowat_bytes = 4096
        subscribers_max = 7
        unread_max = "5s"
        reactors = 3
        [core]
        append = true
        producers = "listed"
        connect_deadline = "1ms"
        request_deadline = "2ms"
        heartbeat_interval = "3ms"
        heartbeat_deadline = "4ms"
        retain_age = "48h"
        retain_bytes = 1000000
        [shard]
        retain_age = "9000h"
        retain_bytes = 2000000
        [breaker]
        failure_rate_threshold = 40.0
    "#;
    let config = Config::from_toml(text, "p.toml").unwrap();
    assert_eq!(config.validate(), Ok(()));
    let at = |node| config.listen(node).unwrap().to_string();
    assert_eq!(at(NodeId::External), "127.0.0.9:1");
    assert_eq!(at(NodeId::Broker), "127.0.0.9:2");
    assert_eq!(at(NodeId::Core), "[::1]:3");
    assert_eq!(at(NodeId::Shard("A".parse().unwrap())), "127.0.0.9:4");
    assert_eq!(at(NodeId::Shard("B".parse().unwrap())), "127.0.0.1:5");
    assert_eq!(config.listen(NodeId::Shard("C".parse().unwrap())), None);
    assert_eq!(at(NodeId::Aggregator), "127.0.0.9:6");
    assert_eq!(config.data.dir, PathBuf::from("/d"));
    assert_eq!(config.data.segment_bytes, 65536);
    assert_eq!(config.data.durability, Durability::Batch);
    assert_eq!(config.data.sync_interval, Duration::from_millis(2));
    assert_eq!(config.partition.by, PartitionBy::Range);
    assert_eq!(config.partition.ranges[1], "B-~");
    assert_eq!(config.external.tapes, [PathBuf::from("a"), PathBuf::from("b")]);
    assert_eq!(config.external.speed, Speed::Max);
    assert!(config.external.looped && config.external.allow_torn);
    assert_eq!(config.external.align, Align::Start);
    assert!(config.core.append);
    assert_eq!(config.core.producers, Producers::Listed);
    assert_eq!((config.external.seed, config.external.chaos.as_str()), (9, "refuse=0.1,stall=0.3"));
    assert_eq!(config.external.rate(), 1000);
    assert_eq!(config.broker.ring_frames, 64);
    assert_eq!(config.broker.send_buffer_bytes, 0);
    assert_eq!(config.broker.notsent_lowat_bytes, 4096);
    assert_eq!(config.broker.subscribers_max, 7);
    assert_eq!(config.broker.unread_max, Duration::from_secs(5));
    assert_eq!(config.broker.reactors, 3);
    assert_eq!(config.core.connect_deadline, Duration::from_millis(1));
    assert_eq!(config.core.request_deadline, Duration::from_millis(2));
    assert_eq!(config.core.heartbeat_interval, Duration::from_millis(3));
    assert_eq!(config.core.heartbeat_deadline, Duration::from_millis(4));
    let hours = |hours| Some(Duration::from_hours(hours));
    assert_eq!((config.core.retain_age, config.core.retain_bytes), (hours(48), Some(1_000_000)));
    assert_eq!(
        (config.shard.retain_age, config.shard.retain_bytes),
        (hours(9000), Some(2_000_000))
    );
    assert!((config.breaker.failure_rate_threshold - 40.0).abs() < f64::EPSILON);
}

#[test]
fn a_misspelt_key_is_refused_with_its_line() {
    let message = refusal("[net]\nhost = \"::1\"\nbrokr = 8081\n");
    assert!(
        message.starts_with("p.toml line 3, [net], `brokr = 8081`: unknown field"),
        "{message}"
    );
    assert!(message.contains("`broker`"), "{message} does not name the right key");
    assert!(refusal("[nets]\n").contains("unknown field `nets`"));
    assert!(refusal("[data]\nsync_interval = \"50\"\n").contains("a whole number and a unit"));
    assert!(refusal("[data]\nsync_interval = 50\n").contains("`sync_interval = 50`"));
    assert!(refusal("[data]\ndurability = \"fsync\"\n").contains("`batch`"));
}

#[test]
fn every_refusal_is_one_line_that_names_its_key() {
    for (text, key) in [
        ("[net]\nhost = \"no such host\"", "host"),
        ("[net]\nbroker = 65536", "broker"),
        ("[net]\nbroker = -1", "broker"),
        ("[net]\nbroker = 1.5", "broker"),
        ("[net]\nbroker = \"no such host:1\"", "broker"),
        ("[net]\nbroker = 0", "[net] broker"),
        ("[net]\nbroker = 8080", "[net] broker"),
        ("[net]\nshards = []", "[net] shards"),
        ("[net]\nshards = [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]", "[net] shards"),
        ("[net]\nshards = [1, 2, 1]", "[net] shards"),
        ("[net]\ncore = \"0.0.0.0:8080\"", "[net] core"),
        ("[data]\ndir = \"\"", "[data] dir"),
        ("[data]\nsegment_bytes = 65537", "[data] segment_bytes"),
        ("[data]\nsegment_bytes = 4096", "[data] segment_bytes"),
        ("[data]\nsegment_bytes = -1", "segment_bytes"),
        ("[data]\nsync_interval = \"0s\"", "[data] sync_interval"),
        ("[data]\nsync_interval = \"2h\"", "[data] sync_interval"),
        ("[data]\nclock_step_max = \"1ms\"", "[data] clock_step_max"),
        ("[data]\nclock_step_max = \"25h\"", "[data] clock_step_max"),
        ("[partition]\nby = \"range\"\nranges = [\"H-A\",\"I-P\",\"Q-Z\"]", "[partition] ranges"),
        ("[external]\nchaos = \"refuse=2\"", "chaos"),
        ("[breaker]\nfailure_rate_threshold = 0.0", "breaker"),
        ("[partition]\nby = \"range\"\nranges = [\"A-Z\"]", "[partition] ranges"),
        ("[partition]\nby = \"range\"\nranges = [\"A-H\",\"H-P\",\"Q-Z\"]", "[partition] ranges"),
        ("[net]\nshards = [1]\n[partition]\nby = \"range\"", "[partition] ranges"),
        ("[external]\nspeed = \"fast\"", "speed"),
        ("[external]\nrate = 0", "[external] rate"),
        ("[external]\nrate = 1\ntapes = [\"a\"]", "[external] rate"),
        ("[broker]\nring_frames = 100000", "[broker] ring_frames"),
        ("[broker]\nring_frames = 32", "[broker] ring_frames"),
        ("[broker]\nring_frames = 33554432", "[broker] ring_frames"),
        ("[broker]\nsend_buffer_bytes = 1", "[broker] send_buffer_bytes"),
        ("[broker]\nnotsent_lowat_bytes = 1", "[broker] notsent_lowat_bytes"),
        ("[broker]\nreactors = 0", "--reactors"),
        ("[broker]\nreactors = 17", "--reactors"),
        ("[broker]\nsubscribers_max = 0", "[broker] subscribers_max"),
        ("[broker]\nunread_max = \"1s\"", "[broker] unread_max"),
        ("[core]\nrequest_deadline = \"0s\"", "[core] request_deadline"),
        ("[core]\nheartbeat_deadline = \"250ms\"", "[core] heartbeat_deadline"),
        ("[core]\nx = \"\u{1b}[31m\"", "x ="),
        ("[core]\nretain_age = \"0s\"", "[core] retain_age"),
        ("[core]\nretain_bytes = 1", "[core] retain_bytes"),
        ("[shard]\nretain_bytes = 1", "[shard] retain_bytes"),
        ("[shard]\nretain_age = 5", "retain_age"),
        ("[core", "p.toml"),
        ("\0", "p.toml"),
    ] {
        let message = refusal(text);
        assert!(message.contains(key), "{text:?} gave: {message}");
        assert!(!message.contains(['\n', '\u{1b}']), "{message:?}");
    }
}
