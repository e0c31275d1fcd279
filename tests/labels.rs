//! Labels apply within their scope and nowhere else, on whatever thread a future is polled.
#![cfg(all(feature = "profiling", unix))]

mod common;

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::thread;

use common::one_at_a_time;
use heapdrift::snapshot::LiveSample;
use heapdrift::{Alloc, LabelFuture, Profiler, Snapshot, with_labels};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

fn exact() -> Profiler {
    Profiler::builder().sample_interval_bytes(1).start().unwrap()
}

fn labels_of<'a>(snapshot: &'a Snapshot, sample: &LiveSample) -> &'a BTreeMap<String, String> {
    &snapshot.label_sets[snapshot.stacks[sample.stack as usize].labels as usize]
}

/// The labels of the only live block of this size, as `key=value` words.
#[track_caller]
fn labels_of_size(snapshot: &Snapshot, size: usize) -> String {
    let of_size: Vec<LiveSample> =
        snapshot.live.iter().filter(|sample| sample.size == size as u64).collect();
    assert_eq!(of_size.len(), 1, "blocks of {size} bytes");
    let labels = labels_of(snapshot, &of_size[0]);
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// Sizes that no other allocation of the process has.
const ODD: [usize; 4] = [100_003, 100_019, 100_043, 100_049];

fn block(size: usize) -> Vec<u8> {
    Vec::with_capacity(size)
}

#[test]
fn inner_scopes_add_and_override_labels_until_they_end() {
    let _one = one_at_a_time();
    let profiler = exact();
    let mut kept = vec![block(ODD[0])];
    with_labels(&[("b", "outer"), ("a", "1")], || {
        kept.push(block(ODD[1]));
        with_labels(&[("b", "inner"), ("c", "3")], || kept.push(block(ODD[2])));
        kept.push(block(ODD[3]));
    });
    kept.push(block(ODD[0] + 2));
    let snapshot = profiler.snapshot();
    assert_eq!(labels_of_size(&snapshot, ODD[0]), "");
    assert_eq!(labels_of_size(&snapshot, ODD[1]), "a=1 b=outer");
    assert_eq!(labels_of_size(&snapshot, ODD[2]), "a=1 b=inner c=3");
    assert_eq!(labels_of_size(&snapshot, ODD[3]), "a=1 b=outer");
    assert_eq!(labels_of_size(&snapshot, ODD[0] + 2), "");
}

#[test]
fn a_panic_leaves_the_scopes_that_it_unwinds() {
    let _one = one_at_a_time();
    let profiler = exact();
    let mut kept = Vec::new();
    with_labels(&[("outer", "1")], || {
        let result = std::panic::catch_unwind(|| {
            with_labels(&[("inner", "2")], || {
                with_labels(&[("innermost", "3")], || std::panic::resume_unwind(Box::new(7)))
            })
        });
        assert_eq!(*result.unwrap_err().downcast::<i32>().unwrap(), 7);
        kept.push(block(ODD[0]));
    });
    kept.push(block(ODD[1]));
    let snapshot = profiler.snapshot();
    assert_eq!(labels_of_size(&snapshot, ODD[0]), "outer=1");
    assert_eq!(labels_of_size(&snapshot, ODD[1]), "");
}

#[test]
fn a_spawned_thread_does_not_inherit_labels() {
    let _one = one_at_a_time();
    let profiler = exact();
    let _kept = with_labels(&[("route", "/")], || thread::spawn(|| block(ODD[0])).join().unwrap());
    assert_eq!(labels_of_size(&profiler.snapshot(), ODD[0]), "");
}

/// A future that is pending once.
#[derive(Default)]
struct Later(bool);

impl Future for Later {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Polls a future until it is ready, each time on a new thread that has a label of its own.
fn on_a_new_thread_each_time<F: Future<Output: Send> + Send>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        let future = future.as_mut();
        let poll = || {
            with_labels(&[("thread", "new")], || {
                let polled = future.poll(&mut Context::from_waker(Waker::noop()));
                // The labels of the future do not apply here any more.
                (polled, block(ODD[3]))
            })
        };
        if let (Poll::Ready(output), _) = thread::scope(|scope| scope.spawn(poll).join().unwrap()) {
            return output;
        }
    }
}

#[test]
fn labels_of_a_future_follow_it_from_thread_to_thread() {
    let _one = one_at_a_time();
    let profiler = exact();
    let inner = async {
        Later::default().await;
        let block = block(ODD[1]);
        Later::default().await;
        block
    };
    let future = async {
        let before = block(ODD[0]);
        Later::default().await;
        let inner = inner.with_labels(&[("route", "/inner"), ("step", "2")]).await;
        Later::default().await;
        (before, inner, block(ODD[2]))
    };
    let _kept = on_a_new_thread_each_time(future.with_labels(&[("route", "/outer")]));
    let snapshot = profiler.snapshot();
    assert_eq!(labels_of_size(&snapshot, ODD[0]), "route=/outer thread=new");
    assert_eq!(labels_of_size(&snapshot, ODD[1]), "route=/inner step=2 thread=new");
    assert_eq!(labels_of_size(&snapshot, ODD[2]), "route=/outer thread=new");
    // The blocks of the executor itself never have a label of the future.
    let sites_of_executor = snapshot.stacks.iter().filter(|stack| {
        let labels = &snapshot.label_sets[stack.labels as usize];
        stack.metrics.alloc_bytes.value % ODD[3] as f64 == 0.0
            && stack.metrics.alloc_count.value == 5.0
            && labels.len() == 1
            && labels.contains_key("thread")
    });
    assert_eq!(sites_of_executor.count(), 1, "five polls, each with one block of the executor");
}

/// Many tasks run on a few threads: each block has the labels of its task, whichever thread polled.
#[test]
fn tasks_of_a_thread_pool_do_not_mix_their_labels() {
    const TASKS: usize = 40;
    const BLOCKS: usize = 10;
    let _one = one_at_a_time();
    // The threads of the pool start after the session, so that they record from their start.
    let profiler = exact();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap();
    let threads = Mutex::new(HashSet::new());
    let kept: Vec<Vec<Vec<u8>>> = runtime.block_on(async {
        let threads: &'static Mutex<HashSet<(usize, thread::ThreadId)>> =
            Box::leak(Box::new(threads));
        let tasks: Vec<_> = (0..TASKS)
            .map(|number| {
                let task = async move {
                    let mut blocks = Vec::new();
                    for _ in 0..BLOCKS {
                        blocks.push(block(200_000 + number));
                        threads.lock().unwrap().insert((number, thread::current().id()));
                        tokio::task::yield_now().await;
                    }
                    blocks
                };
                if number % 4 == 3 {
                    tokio::spawn(task)
                } else {
                    tokio::spawn(task.with_labels(&[("task", &number.to_string())]))
                }
            })
            .collect();
        let mut kept = Vec::new();
        for task in tasks {
            kept.push(task.await.unwrap());
        }
        let moved = threads.lock().unwrap().len() - TASKS;
        println!("tasks were seen on {moved} threads beyond their first");
        kept
    });
    let snapshot = profiler.snapshot();
    for number in 0..TASKS {
        let of_task: Vec<_> =
            snapshot.live.iter().filter(|s| s.size == 200_000 + number as u64).collect();
        assert_eq!(of_task.len(), BLOCKS);
        for sample in of_task {
            let expected = (number % 4 != 3).then(|| number.to_string());
            assert_eq!(labels_of(&snapshot, &sample).get("task"), expected.as_ref());
        }
    }
    drop(kept);
}

#[cfg(feature = "read")]
#[test]
fn labels_are_written_to_dumps() {
    let _one = one_at_a_time();
    let profiler = exact();
    let _kept =
        with_labels(&[("route", "/straße?q=\"1\"\n"), ("", "empty key")], || block(ODD[0]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.heap.json.gz");
    profiler.dump(&path).unwrap();
    let read = heapdrift::dump::read(&path).unwrap();
    assert_eq!(labels_of_size(&read, ODD[0]), "=empty key route=/straße?q=\"1\"\n");
}

#[test]
fn too_many_or_too_long_labels_are_counted_and_the_sample_is_kept() {
    let _one = one_at_a_time();
    let profiler = exact();
    let names: Vec<String> = (0..17).map(|i| format!("key{i}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    let long = "x".repeat(3000);
    let _sixteen = with_labels(&many[..16], || block(ODD[0]));
    assert_eq!(profiler.stats().dropped_labels, 0);
    let _seventeen = with_labels(&many, || block(ODD[1]));
    assert_eq!(profiler.stats().dropped_labels, 1);
    let _nested = with_labels(&many[..9], || with_labels(&many[9..], || block(ODD[2])));
    assert_eq!(profiler.stats().dropped_labels, 2);
    let _long = with_labels(&[("long", &long)], || block(ODD[3]));
    assert_eq!(profiler.stats().dropped_labels, 3);
    let snapshot = profiler.snapshot();
    assert_eq!(labels_of_size(&snapshot, ODD[0]).split(' ').count(), 16);
    for size in &ODD[1..] {
        assert_eq!(labels_of_size(&snapshot, *size), "", "kept, without labels");
    }
}

/// Unbounded values, such as request ids, cost samples their labels and nothing else.
#[test]
fn label_sets_that_exceed_the_table_are_counted_and_the_samples_are_kept() {
    const SETS: usize = 6000;
    let _one = one_at_a_time();
    let profiler = exact();
    let kept: Vec<Vec<u8>> = (0..SETS)
        .map(|id| {
            let id = id.to_string();
            with_labels(&[("request", &id)], || block(ODD[0]))
        })
        .collect();
    let snapshot = profiler.snapshot();
    snapshot.validate().unwrap();
    let of_site: Vec<_> = snapshot.live.iter().filter(|s| s.size == ODD[0] as u64).collect();
    assert_eq!(of_site.len(), SETS);
    let without = of_site.iter().filter(|s| labels_of(&snapshot, s).is_empty()).count();
    assert_eq!(without as u64, snapshot.stats.dropped_labels);
    assert!((1..SETS / 2).contains(&without), "{without} of {SETS}");
    drop(kept);
}
