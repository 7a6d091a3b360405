//! Dead letters: what they keep, how they are found, and what becomes of them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use weft::entry::{DEATHS_MAX, DeadLetter, Death, EntryId, Stream};
use weft::outcome::DeadReason;
use weft::queue::{Filter, Start};

use super::{SOON, Store, all_dead, bury, count, done, event, letter, numbered, receive};

pub(super) async fn a_dead_letter_keeps_all_it_is_told(store: Store) {
    let queue = store.open();
    let time = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_868_200 + seconds);
    let whole = DeadLetter {
        replays: 2,
        died_before: vec![
            Death { reason: DeadReason::Exhausted, died: None, replayed: None },
            Death { reason: DeadReason::Gone, died: Some(time(7)), replayed: Some(time(9)) },
        ],
        last_error: "ünïcode\nand lines".to_owned(),
        ..letter("sub-67890", DeadReason::Plugin)
    };
    let bare = DeadLetter {
        event: Bytes::new(),
        subscription_id: String::new(),
        attempts: 0,
        last_status: None,
        raw: vec![("colour".into(), "red".into()), ("\u{0}".into(), Bytes::from_static(b"\xff\x00"))],
        ..letter("", DeadReason::Malformed)
    };
    bury(&*queue, vec![whole.clone(), bare.clone()]).await;
    let found = all_dead(&*queue).await;
    assert_eq!(found[1].1, whole);
    assert_eq!(found[0].1, bare);
    assert_eq!(queue.dead_letter(found[1].0).await.unwrap().unwrap(), whole);
    assert_eq!(queue.dead_letter(EntryId::new(1, 1)).await.unwrap(), None);
}

pub(super) async fn dead_letters_are_listed_in_pages_newest_or_oldest_first(store: Store) {
    let queue = store.open();
    let names: Vec<String> = (0..25).map(|number| format!("sub-{number}")).collect();
    bury(&*queue, names.iter().map(|name| letter(name, DeadReason::Exhausted)).collect()).await;
    let walk = async |start| {
        let (mut seen, mut next, mut pages) = (Vec::new(), Some(start), 0);
        while let Some(start) = next {
            let page = queue.dead_letters(&Filter::default(), start, count(10)).await.unwrap();
            assert!(page.letters.len() <= 10);
            seen.extend(page.letters.into_iter().map(|(_, letter)| letter.subscription_id));
            next = page.next.map(|next| start.past(next));
            pages += 1;
        }
        assert!((3..=4).contains(&pages), "{pages}");
        seen
    };
    assert!(walk(Start::Newest).await.iter().eq(names.iter().rev()));
    assert!(walk(Start::Oldest).await.iter().eq(names.iter()));
}

pub(super) async fn a_page_of_large_dead_letters_is_short(store: Store) {
    let queue = store.open();
    let large = |name: String| DeadLetter { event: vec![b'x'; 1 << 20].into(), ..letter(&name, DeadReason::Exhausted) };
    bury(&*queue, (0..30).map(|number| large(format!("sub-{number}"))).collect()).await;
    let (mut pages, mut start) = (Vec::new(), Some(Start::Newest));
    while let Some(at) = start {
        let page = queue.dead_letters(&Filter::default(), at, count(100)).await.unwrap();
        pages.push(page.letters.len());
        start = page.next.map(|next| at.past(next));
    }
    // Each of three shards has a page of its own.
    assert!(pages.iter().all(|letters| *letters <= 3 * 5) && pages.iter().sum::<usize>() == 30, "{pages:?}");
}

pub(super) async fn dead_letters_are_filtered(store: Store) {
    let queue = store.open();
    let (gone, exhausted) = (DeadReason::Gone, DeadReason::Exhausted);
    bury(&*queue, vec![letter("a", gone), letter("b", gone), letter("a", exhausted), letter("b", exhausted)]).await;
    let find = async |subscription: Option<&str>, reason| {
        let filter = Filter { subscription_id: subscription.map(str::to_owned), reason, ..Filter::default() };
        let page = queue.dead_letters(&filter, Start::Newest, count(10)).await.unwrap();
        page.letters.into_iter().map(|(_, letter)| (letter.subscription_id, letter.reason)).collect::<Vec<_>>()
    };
    assert_eq!(find(Some("a"), None).await, [("a".to_owned(), exhausted), ("a".to_owned(), gone)]);
    assert_eq!(find(None, Some(gone)).await, [("b".to_owned(), gone), ("a".to_owned(), gone)]);
    assert_eq!(find(Some("b"), Some(exhausted)).await, [("b".to_owned(), exhausted)]);
    assert!(find(Some("c"), None).await.is_empty());
}

pub(super) async fn dead_letters_are_filtered_by_the_time_they_died(store: Store) {
    let queue = store.open();
    for name in ["a", "b", "c"] {
        bury(&*queue, vec![letter(name, DeadReason::Exhausted)]).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let at: Vec<SystemTime> = all_dead(&*queue).await.iter().rev().map(|(id, _)| id.time()).collect();
    assert!(at[0].elapsed().unwrap() < Duration::from_secs(60), "by the clock on the wall");
    let find = async |since, until, start| {
        let filter = Filter { since, until, ..Filter::default() };
        let page = queue.dead_letters(&filter, start, count(10)).await.unwrap();
        assert_eq!(page.next, None);
        page.letters.into_iter().map(|(_, letter)| letter.subscription_id).collect::<String>()
    };
    assert_eq!(find(Some(at[1]), None, Start::Newest).await, "cb");
    assert_eq!(find(Some(at[1]), None, Start::Oldest).await, "bc");
    assert_eq!(find(None, Some(at[1]), Start::Newest).await, "a");
    assert_eq!(find(Some(at[0]), Some(at[2]), Start::Oldest).await, "ab");
    assert_eq!(find(Some(at[2]), Some(at[0]), Start::Newest).await, "");
    assert_eq!(find(None, Some(SystemTime::UNIX_EPOCH), Start::Oldest).await, "");
}

pub(super) async fn a_replay_is_a_delivery_with_its_past(store: Store) {
    let queue = store.open();
    let before = Death { reason: DeadReason::Gone, died: None, replayed: None };
    let past = DeadLetter { replays: 1, died_before: vec![before], ..letter("a", DeadReason::Exhausted) };
    bury(&*queue, vec![past.clone()]).await;
    let id = all_dead(&*queue).await[0].0;
    let delivery = queue.replay(&[id]).await.unwrap()[0].expect("it was there");
    assert!(all_dead(&*queue).await.is_empty());
    let entry = receive(&*queue, 1).await.remove(0);
    assert_eq!((entry.handle.id, entry.handle.stream), (delivery, Stream::Deliveries));
    assert_eq!(event(&entry), past.event);
    assert_eq!(entry.field("replays").unwrap(), "2");
    let died_before = String::from_utf8(entry.field("died_before").unwrap().to_vec()).unwrap();
    let replayed = died_before.strip_prefix("gone,exhausted@2026-01-08T10:30:07Z/").expect("it says when it died");
    let ago = humantime::parse_rfc3339(replayed).expect("and when it was replayed").elapsed().unwrap();
    assert!(ago < Duration::from_secs(60), "{died_before}");
    queue.settle(&[done(entry.handle)]).await.unwrap();
    assert_eq!(queue.depth().await.unwrap().pending, 0);
}

pub(super) async fn a_trail_keeps_the_last_deaths_and_counts_all(store: Store) {
    let queue = store.open();
    let first = Death { reason: DeadReason::Stale, died: None, replayed: None };
    let gone = Death { reason: DeadReason::Gone, ..first };
    let died_before = [first].into_iter().chain([gone; DEATHS_MAX - 1]).collect();
    bury(&*queue, vec![DeadLetter { replays: 41, died_before, ..letter("a", DeadReason::Poison) }]).await;
    let id = all_dead(&*queue).await[0].0;
    queue.replay(&[id]).await.unwrap();
    let entry = receive(&*queue, 1).await.remove(0);
    assert_eq!(entry.field("replays").unwrap(), "42");
    let died_before = String::from_utf8(entry.field("died_before").unwrap().to_vec()).unwrap();
    let reasons: Vec<&str> = died_before.split(',').map(|death| death.split('@').next().unwrap()).collect();
    assert_eq!((reasons.len(), reasons[0], reasons[DEATHS_MAX - 1]), (DEATHS_MAX, "gone", "poison"));
}

pub(super) async fn many_are_replayed_in_their_order(store: Store) {
    let queue = store.open();
    // So few that they are all in one shard, where there are shards.
    let names: Vec<String> = (0..9).map(|number| format!("sub-{number}")).collect();
    let of = |name: &String| DeadLetter { event: name.clone().into(), ..letter(name, DeadReason::Exhausted) };
    bury(&*queue, names.iter().map(of).collect()).await;
    let mut ids: Vec<EntryId> = all_dead(&*queue).await.into_iter().rev().map(|(id, _)| id).collect();
    ids.insert(5, EntryId::new(1, 1));
    let deliveries = queue.replay(&ids).await.unwrap();
    assert!(deliveries.len() == 10 && deliveries[5].is_none() && deliveries.iter().flatten().is_sorted());
    let entries = receive(&*queue, 9).await;
    assert!(entries.iter().map(event).eq(names.iter().map(String::as_bytes)));
    assert!(queue.replay(&[]).await.unwrap().is_empty());
}

pub(super) async fn a_dead_letter_is_replayed_once(store: Store) {
    let queue = store.open();
    bury(&*queue, vec![letter("a", DeadReason::Exhausted)]).await;
    let id = all_dead(&*queue).await[0].0;
    let (once, ids) = ([id], [id, id]);
    let both = tokio::join!(queue.replay(&once), queue.replay(&ids));
    let replays = [both.0.unwrap(), both.1.unwrap()].concat();
    assert_eq!(replays.iter().flatten().count(), 1, "{replays:?}");
    assert_eq!(receive(&*queue, 1).await.len(), 1);
    assert!(queue.receive(0, count(1), Duration::from_millis(20)).await.unwrap().is_empty());
}

pub(super) async fn a_purged_dead_letter_is_gone(store: Store) {
    let queue = store.open();
    bury(&*queue, vec![letter("a", DeadReason::Exhausted), letter("b", DeadReason::Exhausted)]).await;
    let id = all_dead(&*queue).await[0].0;
    assert_eq!(queue.purge(&[id, EntryId::new(1, 1)]).await.unwrap(), 1);
    assert_eq!(queue.purge(&[id]).await.unwrap(), 0);
    assert_eq!(queue.purge(&[]).await.unwrap(), 0);
    assert_eq!(queue.replay(&[id]).await.unwrap(), [None]);
    let left = all_dead(&*queue).await;
    assert_eq!((left.len(), left[0].1.subscription_id.as_str()), (1, "a"));
}

#[tokio::test]
async fn a_large_replay_does_not_hold_up_what_is_fresh() {
    let store = Store::embedded();
    let queue = store.open();
    bury(&*queue, (0..4).map(|_| letter("a", DeadReason::Gone)).collect()).await;
    let ids: Vec<EntryId> = all_dead(&*queue).await.into_iter().map(|(id, _)| id).collect();
    queue.replay(&ids).await.unwrap();
    queue.publish(&numbered(4..5)).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..2 {
        let entries = queue.receive(0, count(2), SOON).await.unwrap();
        streams.extend(entries.iter().map(|entry| entry.handle.stream));
    }
    assert!(streams.contains(&Stream::Events), "{streams:?}");
}
