use super::*;
use crate::attempt::NoAnswer;
use crate::breaker::BreakerPolicy;
use crate::subscription::Endpoint;

const FRESH: Origin = Origin::Stream;
const BACK: Origin = Origin::Schedule { lease: 1 };

fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings {
        in_flight_max: 2,
        breaker: BreakerPolicy { failures: 2, ..BreakerPolicy::default() },
        ..Settings::default()
    };
    change(&mut settings);
    settings
}

fn subscription(id: &str, settings: &Settings) -> Subscription {
    let endpoint = Arc::new(Endpoint::parse("http://h/").unwrap());
    Subscription { id: id.into(), endpoint, settings: Arc::new(settings.clone()) }
}

fn failed() -> AttemptResult {
    AttemptResult::Unanswered { why: NoAnswer::Connect, error: String::new() }
}

fn answered(status: u16) -> AttemptResult {
    AttemptResult::Answered { status: http::StatusCode::from_u16(status).unwrap(), retry_after: None }
}

fn refused(gate: &Gate, subscription: &Subscription, origin: Origin) -> Refusal {
    gate.enter(subscription, origin).expect_err("refused")
}

fn wanted(gate: &Gate, settings: &Settings) -> Vec<(String, usize)> {
    let (wanted, _) = gate.wanted(100, |_| Arc::new(settings.clone()));
    wanted.into_iter().map(|(id, count)| (id.to_string(), count)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_subscription_gets_its_places_and_no_more() {
    let (gate, settings) = (Gate::new(8, 1000), settings(|_| {}));
    let (a, b) = (subscription("a", &settings), subscription("b", &settings));
    let first = gate.enter(&a, FRESH).unwrap();
    let second = gate.enter(&a, FRESH).unwrap();
    assert_eq!(refused(&gate, &a, FRESH), Refusal::Parked(Block::Places));
    assert!(gate.enter(&b, FRESH).is_ok());
    assert!(wanted(&gate, &settings).is_empty());
    drop(first);
    // What is parked goes first.
    assert_eq!(refused(&gate, &a, FRESH), Refusal::Parked(Block::Backlog));
    gate.parked([&a.id, &a.id].into_iter());
    assert_eq!(wanted(&gate, &settings), [("a".to_owned(), 1)]);
    assert!(wanted(&gate, &settings).is_empty(), "it is on its way");
    let third = gate.enter(&a, BACK).unwrap();
    drop((second, third));
    assert_eq!(wanted(&gate, &settings), [("a".to_owned(), 2)]);
    gate.brought_back(&vec![("a".into(), 2)], &[0.into()]);
    drop(gate.enter(&a, FRESH).unwrap());
    assert!(gate.inner().flows.is_empty(), "nothing is remembered of what is idle");
}

/// One of a subscription is refused, and asked for while it is not parked yet. `parked` may say that it is, before the
/// answer is here that there was none.
async fn asked_for_too_early(parked: impl FnOnce(&Gate, &Subscription)) {
    let (gate, settings) = (Gate::new(8, 1000), settings(|settings| settings.in_flight_max = 1));
    let a = subscription("a", &settings);
    let place = gate.enter(&a, FRESH).unwrap();
    assert_eq!(refused(&gate, &a, FRESH), Refusal::Parked(Block::Places));
    drop(place);
    let none = [0.into()];
    let asked = vec![("a".into(), 1)];
    assert_eq!(wanted(&gate, &settings), [("a".to_owned(), 1)]);
    parked(&gate, &a);
    gate.brought_back(&asked, &none);
    assert_eq!(refused(&gate, &a, FRESH), Refusal::Parked(Block::Backlog), "it would overtake the first");
    gate.parked([&a.id].into_iter());
    tokio::time::advance(PARKED_WITHIN).await;
    assert_eq!(wanted(&gate, &settings), [("a".to_owned(), 1)]);
    // What was never parked after all is not waited for.
    tokio::time::advance(COMING_MAX).await;
    gate.brought_back(&asked, &none);
    assert!(gate.enter(&a, FRESH).is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_still_to_be_parked_is_not_overtaken() {
    asked_for_too_early(|_, _| {}).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_parked_while_it_is_asked_for_is_not_overtaken() {
    asked_for_too_early(|gate, a| gate.parked([&a.id].into_iter())).await;
}

#[tokio::test(start_paused = true)]
async fn what_may_be_parked_where_nobody_answered_is_not_overtaken() {
    let (gate, settings) = (Gate::new(8, 1000), settings(|_| {}));
    let a = subscription("a", &settings);
    gate.found_parked(vec![Arc::clone(&a.id)]);
    assert_eq!(wanted(&gate, &settings), [("a".to_owned(), 2)]);
    let asked = vec![("a".into(), 2)];
    gate.brought_back(&asked, &[Unparked { count: 1, is_partial: true }]);
    assert_eq!(refused(&gate, &a, FRESH), Refusal::Parked(Block::Backlog));
    gate.parked([&a.id].into_iter());
    drop(gate.enter(&a, BACK).unwrap());
    assert_eq!(wanted(&gate, &settings), [("a".to_owned(), 2)]);
    gate.brought_back(&asked, &[1.into()]);
    assert!(gate.enter(&a, FRESH).is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_another_host_took_keeps_no_place_for_longer_than_a_moment() {
    let (gate, settings) = (Gate::new(8, 1000), settings(|settings| settings.in_flight_max = 4));
    let a = subscription("a", &settings);
    let mut places: Vec<_> = (0..4).map(|_| gate.enter(&a, FRESH).unwrap()).collect();
    assert_eq!(refused(&gate, &a, FRESH), Refusal::Parked(Block::Places));
    places.clear();
    assert_eq!(wanted(&gate, &settings), [("a".to_owned(), 4)]);
    // Three never come here; the others go on.
    for _ in 0..9 {
        let place = gate.enter(&a, BACK).unwrap();
        tokio::time::advance(Duration::from_millis(100)).await;
        drop(place);
        assert_eq!(wanted(&gate, &settings), [("a".to_owned(), 1)]);
    }
    let place = gate.enter(&a, BACK).unwrap();
    tokio::time::advance(Duration::from_millis(100)).await;
    drop(place);
    assert_eq!(wanted(&gate, &settings), [("a".to_owned(), 4)]);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_lets_one_probe_through_at_a_time() {
    let (gate, settings) = (Gate::new(8, 1000), settings(|_| {}));
    let a = subscription("a", &settings);
    for _ in 0..2 {
        gate.enter(&a, FRESH).unwrap().conclude(&settings, &failed(), None);
    }
    assert_eq!(refused(&gate, &a, BACK), Refusal::Parked(Block::Open));
    assert_eq!(gate.held_up(|_| Arc::new(settings.clone())).open, 1);
    tokio::time::advance(Duration::from_secs(13)).await;
    let probe = gate.enter(&a, BACK).unwrap();
    assert_eq!(refused(&gate, &a, BACK), Refusal::Parked(Block::Open));
    probe.conclude(&settings, &failed(), None);
    assert_eq!(refused(&gate, &a, BACK), Refusal::Parked(Block::Open));
    tokio::time::advance(Duration::from_secs(13)).await;
    // A probe that is abandoned says nothing; the next one is let through.
    drop(gate.enter(&a, BACK).unwrap());
    gate.enter(&a, BACK).unwrap().conclude(&settings, &answered(204), None);
    assert!(gate.enter(&a, BACK).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_endpoint_asks_for_holds_all_its_deliveries() {
    let (gate, settings) = (Gate::new(8, 1000), settings(|_| {}));
    let a = subscription("a", &settings);
    gate.enter(&a, FRESH).unwrap().conclude(&settings, &answered(429), Some(Duration::from_secs(30)));
    assert_eq!(refused(&gate, &a, FRESH), Refusal::Parked(Block::Paused));
    let (none, again) = gate.wanted(100, |_| Arc::new(settings.clone()));
    assert!(none.is_empty() && again.is_some());
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(wanted(&gate, &settings), [("a".to_owned(), 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_rate_brings_back_what_it_allows() {
    let rate = crate::rate::Rate { count: 10, per: Duration::from_secs(1), burst: 1 };
    let (gate, settings) = (Gate::new(8, 1000), settings(|settings| settings.rate = Some(rate)));
    let a = subscription("a", &settings);
    drop(gate.enter(&a, FRESH).unwrap());
    assert_eq!(refused(&gate, &a, FRESH), Refusal::Parked(Block::Rate));
    for _ in 0..5 {
        assert!(wanted(&gate, &settings).is_empty());
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(wanted(&gate, &settings), [("a".to_owned(), 1)]);
        drop(gate.enter(&a, BACK).unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn many_that_fail_share_few_places() {
    let (gate, settings) = (Gate::new(3, 1000), settings(|_| {}));
    let all: Vec<Subscription> = (0..10).map(|n| subscription(&n.to_string(), &settings)).collect();
    for one in &all {
        gate.enter(one, FRESH).unwrap().conclude(&settings, &failed(), None);
    }
    let places: Vec<_> = all.iter().filter_map(|one| gate.enter(one, BACK).ok()).collect();
    assert_eq!(places.len(), 3);
    assert_eq!(refused(&gate, &all[9], BACK), Refusal::Parked(Block::Failing));
    assert!(gate.enter(&subscription("healthy", &settings), FRESH).is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_disabled_is_given_up_but_for_a_probe() {
    let (gate, settings) =
        (Gate::new(8, 1000), settings(|settings| settings.breaker.disable_after = Some(Duration::from_secs(60))));
    let a = subscription("a", &settings);
    gate.enter(&a, FRESH).unwrap().conclude(&settings, &failed(), None);
    tokio::time::advance(Duration::from_secs(60)).await;
    gate.enter(&a, FRESH).unwrap().conclude(&settings, &failed(), None);
    assert_eq!(refused(&gate, &a, FRESH), Refusal::Disabled(Disabled::Failing));
    assert_eq!(gate.held_up(|_| Arc::new(settings.clone())), HeldUp { open: 1, disabled: 1 });
    tokio::time::advance(Duration::from_secs(13)).await;
    gate.enter(&a, FRESH).unwrap().conclude(&settings, &answered(204), None);
    assert!(gate.enter(&a, FRESH).is_ok());
}

#[tokio::test(start_paused = true)]
async fn every_subscription_gets_its_turn() {
    let (gate, settings) = (Gate::new(8, 1000), settings(|settings| settings.in_flight_max = 1000));
    gate.found_parked(["a", "b", "c"].map(Arc::from).to_vec());
    tokio::time::advance(Duration::from_millis(1)).await;
    let (first, _) = gate.wanted(100, |_| Arc::new(settings.clone()));
    tokio::time::advance(Duration::from_millis(1)).await;
    let (second, _) = gate.wanted(100, |_| Arc::new(settings.clone()));
    let names = |wanted: &Wanted| wanted.iter().map(|(id, count)| format!("{id}{count}")).collect::<Vec<_>>();
    assert_eq!((names(&first), names(&second)), (vec!["a64".into(), "b36".into()], vec!["c64".into(), "a36".into()]));
}

#[tokio::test(start_paused = true)]
async fn what_was_parked_leaves_slots_for_what_is_due() {
    let (gate, settings) = (Gate::new(8, 12), settings(|settings| settings.in_flight_max = 1000));
    let a = subscription("a", &settings);
    let wanted = || gate.wanted(100, |_| Arc::new(settings.clone()));
    let counts = |wanted: &Wanted| wanted.iter().map(|(_, count)| *count).collect::<Vec<_>>();
    gate.found_parked(["a", "b"].map(Arc::from).to_vec());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(counts(&wanted().0), [12]);
    let (none, next) = wanted();
    assert!(none.is_empty() && next.unwrap() > now(), "nobody asks again and again meanwhile");
    let mut places: Vec<_> = (0..10).map(|_| gate.enter(&a, BACK).unwrap()).collect();
    // Two of them another host has.
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(counts(&wanted().0), [2]);
    let retry = gate.enter(&subscription("c", &settings), BACK).unwrap();
    drop(retry);
    assert!(wanted().0.is_empty(), "a retry has no place of theirs");
    places.truncate(7);
    assert_eq!(counts(&wanted().0), [3]);
}
