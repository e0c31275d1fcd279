//! Scenarios with a leak. Each reaches about 150 to 400 leaked samples at the end of a run.
//!
//! A function with a leak is called `leak_…`; one that is shared with healthy code is called
//! `shared_…`. Each does something after its allocation, because a tail call would leave no frame.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex, mpsc};

use heapdrift::with_labels;
use seq_macro::seq;

use crate::scenario::{Behaviour, Scenario};
use crate::sites::{Block, CALLERS, Site, site};
use crate::world::World;

pub(crate) static ALL: &[Scenario] = &[
    Scenario::leak("constant", &["leak_constant"], constant),
    Scenario::leak("constant_small", &["leak_constant_small"], constant_small),
    Scenario::leak("beside_churn_25%", &["leak_beside_churn"], beside_churn_25),
    Scenario::leak("beside_churn_10%", &["leak_beside_churn"], beside_churn_10),
    Scenario::leak("beside_churn_5%", &["leak_beside_churn"], beside_churn_5),
    Scenario::leak("beside_churn_2%", &["leak_beside_churn"], beside_churn_2),
    Scenario::leak("bursty", &["leak_bursty"], bursty),
    Scenario::leak("few_huge", &["leak_few_huge"], few_huge),
    Scenario::leak("growing_vec", &["leak_growing_vec"], growing_vec),
    Scenario::leak("growing_map", &["leak_growing_map"], growing_map),
    Scenario::leak("keys_never_repeat", &["leak_unique_key"], keys_never_repeat),
    Scenario::leak("spread_over_callers", &["leak_of_many_callers"], spread_over_callers),
    Scenario::leak("recursion", &["leak_recursive"], recursion),
    Scenario::leak("generics", &["leak_generic"], generics),
    Scenario::leak("behind_label", &["leak_behind_label"], behind_label).label("tenant", "acme"),
    Scenario::leak("starting_late", &["leak_starting_late"], starting_late),
    Scenario::leak("in_dependency", &["leak_in_dependency"], in_dependency),
    Scenario::leak("arc_cycle", &["leak_arc_cycle"], arc_cycle),
    Scenario::leak("undrained_channel", &["leak_in_channel"], undrained_channel),
    Scenario::leak("accelerating", &["leak_accelerating"], accelerating),
    Scenario::leak("daily_wave_leak", &["leak_with_load"], daily_wave),
    Scenario::leak("two_leaks", &["leak_first_of_two", "leak_second_of_two"], two_leaks),
    Scenario::leak("object_graph", &["leak_object_graph"], object_graph),
    Scenario::leak("below_helper", &["leak_below_helper"], below_helper),
    Scenario::leak("mixed_sizes", &["leak_mixed_sizes"], mixed_sizes),
];

/// The leaked samples to reach at the end of the run.
fn target(world: &mut World<'_>) -> f64 {
    world.between(155.0, 230.0)
}

/// Leaked samples per tick, evenly over the run.
fn rate(world: &mut World<'_>) -> f64 {
    target(world) / world.ticks_in(1.0)
}

/// Leaks this many samples of this size from this site.
fn leak(world: &mut World<'_>, site: Site, samples: f64, size: usize) {
    for _ in 0..world.births(samples, size) {
        let block = world.allocate(site, size);
        world.leak(block);
    }
}

/// Allocates this many samples of this size; each leaks with probability `share`, or is
/// short-lived.
fn leak_share(world: &mut World<'_>, site: Site, samples: f64, size: usize, share: f64, life: f64) {
    for _ in 0..world.births(samples, size) {
        let block = world.allocate(site, size);
        if world.chance(share) {
            world.leak(block);
        } else {
            let life = world.exponential(life);
            world.free_after(block, life);
        }
    }
}

fn constant(world: &mut World<'_>) -> Behaviour {
    site!(leak_constant);
    let (rate, size) = (rate(world), world.size());
    Behaviour::new(move |world| leak(world, leak_constant, rate, size))
}

fn constant_small(world: &mut World<'_>) -> Behaviour {
    site!(leak_constant_small);
    let (rate, size) = (rate(world), world.between(24.0, 96.0) as usize);
    Behaviour::new(move |world| leak(world, leak_constant_small, rate, size))
}

fn beside_churn(world: &mut World<'_>, share: f64) -> Behaviour {
    site!(leak_beside_churn);
    let rate = rate(world) / share;
    // Sizes near the interval, because up to 150 samples per tick are needed.
    let size = world.between(2000.0, 4096.0) as usize;
    let life = world.log_between(0.3, 4.0);
    Behaviour::new(move |world| leak_share(world, leak_beside_churn, rate, size, share, life))
}

fn beside_churn_25(world: &mut World<'_>) -> Behaviour {
    beside_churn(world, 0.25)
}

fn beside_churn_10(world: &mut World<'_>) -> Behaviour {
    // A little above 10%, so that chance does not put half of the runs below the 10% of the bar.
    beside_churn(world, 0.105)
}

fn beside_churn_5(world: &mut World<'_>) -> Behaviour {
    beside_churn(world, 0.05)
}

fn beside_churn_2(world: &mut World<'_>) -> Behaviour {
    beside_churn(world, 0.02)
}

/// Leaks nothing in most ticks, and much in some.
fn bursty(world: &mut World<'_>) -> Behaviour {
    site!(leak_bursty);
    let (rate, size) = (rate(world), world.size());
    let chance = world.between(0.08, 0.2);
    Behaviour::new(move |world| {
        if world.chance(chance) {
            leak(world, leak_bursty, rate / chance, size);
        }
    })
}

/// Some thirty objects far above the sampling interval.
fn few_huge(world: &mut World<'_>) -> Behaviour {
    site!(leak_few_huge);
    let size = world.log_between(256e3, 2e6) as usize;
    let chance = world.between(0.15, 0.3);
    Behaviour::new(move |world| {
        if world.chance(chance) {
            let block = world.allocate(leak_few_huge, size);
            world.leak(block);
        }
    })
}

/// One `Vec` that is only pushed to.
fn growing_vec(world: &mut World<'_>) -> Behaviour {
    #[inline(never)]
    fn leak_growing_vec(history: &mut Vec<u64>, entries: u64) {
        history.extend(0..entries);
        black_box(history.len());
    }
    let rate = rate(world);
    let mut history = Vec::new();
    Behaviour::new(move |world| {
        let entries = world.births(rate, size_of::<u64>());
        world.serve(|| {
            // In small portions, as a service would, so that the `Vec` grows by doubling.
            (0..16).for_each(|_| leak_growing_vec(&mut history, entries / 16));
        });
        world.container_holds(history.capacity() * size_of::<u64>());
    })
}

/// One `HashMap` that is only inserted into. It grows into new tables, without `realloc`.
fn growing_map(world: &mut World<'_>) -> Behaviour {
    #[inline(never)]
    fn leak_growing_map(seen: &mut HashMap<u64, u64>, key: u64) {
        seen.insert(key, key);
        black_box(seen.len());
    }
    let rate = rate(world);
    let mut seen = HashMap::new();
    Behaviour::new(move |world| {
        let first = seen.len() as u64;
        let keys = world.births(rate, size_of::<(u64, u64)>());
        world.serve(|| (first..first + keys).for_each(|key| leak_growing_map(&mut seen, key)));
        world.container_holds(seen.capacity() * size_of::<(u64, u64)>());
    })
}

/// A cache whose key contains the number of the request, so that it never hits.
fn keys_never_repeat(world: &mut World<'_>) -> Behaviour {
    #[inline(never)]
    fn leak_unique_key(cache: &mut HashMap<String, Block>, request: u64, size: usize) {
        cache.insert(format!("/api/price?request={request:016}"), Vec::with_capacity(size));
        black_box(cache.len());
    }
    let (rate, size) = (rate(world), world.size());
    let mut cache = HashMap::new();
    Behaviour::new(move |world| {
        for _ in 0..world.births(rate, size) {
            let request = cache.len() as u64;
            world.serve(|| leak_unique_key(&mut cache, request, size));
            world.born(2);
            world.leaked(2, size + 36);
        }
    })
}

fn spread_over_callers(world: &mut World<'_>) -> Behaviour {
    site!(leak_of_many_callers);
    let (rate, size) = (rate(world), world.size());
    Behaviour::new(move |world| {
        for _ in 0..world.births(rate, size) {
            let caller = world.index(CALLERS.len());
            let block = world.serve_through(caller, || leak_of_many_callers(size));
            world.born(1);
            world.leak(block);
        }
    })
}

/// A parser of nested input that keeps what it parsed.
fn recursion(world: &mut World<'_>) -> Behaviour {
    #[inline(never)]
    fn leak_recursive(depth: usize, size: usize) -> Block {
        if depth == 0 {
            return Vec::with_capacity(size);
        }
        black_box(leak_recursive(depth - 1, size))
    }
    let (rate, size) = (rate(world), world.size());
    let deepest = world.between(8.0, 24.0) as usize;
    Behaviour::new(move |world| {
        for _ in 0..world.births(rate, size) {
            let depth = world.index(deepest);
            let block = world.serve(|| leak_recursive(depth, size));
            world.born(1);
            world.leak(block);
        }
    })
}

/// Generic code, an instance for each of 60 types.
fn generics(world: &mut World<'_>) -> Behaviour {
    struct Message<const N: usize>;
    trait Kind {
        const NUMBER: usize;
    }
    impl<const N: usize> Kind for Message<N> {
        const NUMBER: usize = N;
    }
    #[inline(never)]
    fn leak_generic<T: Kind>(size: usize) -> Block {
        black_box(T::NUMBER);
        Vec::with_capacity(size)
    }
    seq!(N in 0..60 {
        const INSTANCES: [Site; 60] = [#(leak_generic::<Message<N>>,)*];
    });
    let (rate, size) = (rate(world), world.size());
    Behaviour::new(move |world| {
        for _ in 0..world.births(rate, size) {
            let instance = INSTANCES[world.index(INSTANCES.len())];
            let block = world.allocate(instance, size);
            world.leak(block);
        }
    })
}

/// One of five tenants leaks, at a site where the others do not.
fn behind_label(world: &mut World<'_>) -> Behaviour {
    const TENANTS: [&str; 5] = ["acme", "globex", "initech", "umbrella", "hooli"];
    site!(leak_behind_label);
    let (rate, size) = (rate(world) * TENANTS.len() as f64, world.size());
    let life = world.log_between(0.5, 5.0);
    Behaviour::new(move |world| {
        for _ in 0..world.births(rate, size) {
            let tenant = TENANTS[world.index(TENANTS.len())];
            let block =
                world.serve(|| with_labels(&[("tenant", tenant)], || leak_behind_label(size)));
            world.born(1);
            if tenant == "acme" {
                world.leak(block);
            } else {
                let life = world.exponential(life);
                world.free_after(block, life);
            }
        }
    })
}

/// A site that is healthy up to the middle of the run, and then leaks everything.
fn starting_late(world: &mut World<'_>) -> Behaviour {
    site!(leak_starting_late);
    let (rate, size) = (2.0 * rate(world), world.size());
    let life = world.log_between(0.5, 5.0);
    Behaviour::new(move |world| {
        let share = if world.progress() < 0.5 { 0.0 } else { 1.0 };
        leak_share(world, leak_starting_late, rate, size, share, life);
    })
}

/// Stands for a dependency: the service calls it and never sees what it keeps.
mod vendored {
    use std::hint::black_box;

    use crate::sites::Block;

    pub(super) struct Client {
        sent: Vec<Block>,
    }

    impl Client {
        pub(super) fn new() -> Self {
            Self { sent: Vec::with_capacity(1 << 16) }
        }

        pub(super) fn send(&mut self, size: usize) {
            self.leak_in_dependency(size);
            black_box(self.sent.len());
        }

        #[inline(never)]
        fn leak_in_dependency(&mut self, size: usize) {
            self.sent.push(Vec::with_capacity(size));
            black_box(self.sent.len());
        }
    }
}

fn in_dependency(world: &mut World<'_>) -> Behaviour {
    let (rate, size) = (rate(world), world.size());
    let mut client = vendored::Client::new();
    Behaviour::new(move |world| {
        for _ in 0..world.births(rate, size) {
            world.serve(|| client.send(size));
            world.born(1);
            world.leaked(1, size);
        }
    })
}

/// Two nodes that hold each other, so that not even the suite can free them.
fn arc_cycle(world: &mut World<'_>) -> Behaviour {
    struct Node {
        peer: Mutex<Option<Arc<Node>>>,
        _payload: Block,
    }
    #[inline(never)]
    fn leak_arc_cycle(size: usize) {
        let node = || Arc::new(Node { peer: Mutex::new(None), _payload: Vec::with_capacity(size) });
        let (one, other) = (node(), node());
        let bind = |of: &Node, to: &Arc<Node>| {
            if let Ok(mut peer) = of.peer.lock() {
                *peer = Some(Arc::clone(to));
            }
        };
        bind(&one, &other);
        bind(&other, &one);
    }
    let (rate, size) = (rate(world), world.size());
    Behaviour::new(move |world| {
        for _ in 0..world.births(rate / 2.0, size) {
            world.serve(|| leak_arc_cycle(size));
            world.born(4);
            world.leaked(4, 2 * (size + size_of::<Node>() + 2 * size_of::<usize>()));
        }
    })
}

/// A channel whose receiver is kept and never read.
fn undrained_channel(world: &mut World<'_>) -> Behaviour {
    #[inline(never)]
    fn leak_in_channel(events: &mpsc::Sender<Block>, size: usize) {
        let sent = events.send(Vec::with_capacity(size));
        black_box(sent.is_ok());
    }
    let (rate, size) = (rate(world), world.size());
    let (events, reader) = mpsc::channel();
    Behaviour::new(move |world| {
        for _ in 0..world.births(rate, size) {
            world.serve(|| leak_in_channel(&events, size));
            world.born(1);
            world.leaked(1, size);
        }
        black_box(&reader);
    })
}

/// Leaks ever faster, as the number of users grows.
fn accelerating(world: &mut World<'_>) -> Behaviour {
    site!(leak_accelerating);
    let (rate, size) = (rate(world), world.size());
    Behaviour::new(move |world| {
        let now = 2.0 * rate * world.progress();
        leak(world, leak_accelerating, now, size);
    })
}

/// Leaks a share of what a changing load allocates.
fn daily_wave(world: &mut World<'_>) -> Behaviour {
    site!(leak_with_load);
    const SHARE: f64 = 0.3;
    let (rate, size) = (rate(world) / SHARE, world.size());
    let period = world.between(30.0, 60.0);
    let life = world.log_between(0.5, 4.0);
    Behaviour::new(move |world| {
        let load = 1.0 + 0.9 * (f64::from(world.tick()) * std::f64::consts::TAU / period).sin();
        leak_share(world, leak_with_load, rate * load, size, SHARE, life);
    })
}

/// A fast leak and a slow one, in different handlers.
fn two_leaks(world: &mut World<'_>) -> Behaviour {
    site!(leak_first_of_two);
    site!(leak_second_of_two);
    let (fast, fast_size) = (rate(world), world.size());
    let (slow, slow_size) = (0.6 * rate(world), world.size());
    Behaviour::new(move |world| {
        world.select(0);
        leak(world, leak_first_of_two, fast, fast_size);
        world.select(1);
        leak(world, leak_second_of_two, slow, slow_size);
    })
}

/// A request and everything it owns, from eight call sites below one function.
fn object_graph(world: &mut World<'_>) -> Behaviour {
    seq!(N in 0..8 {
        #(
            #[inline(never)]
            fn shared_field_~N(size: usize) -> Block {
                black_box(N);
                Vec::with_capacity(size)
            }
        )*
        const FIELDS: [Site; 8] = [#(shared_field_~N,)*];
    });
    #[inline(never)]
    fn leak_object_graph(sizes: &[usize; 8]) -> [Block; 8] {
        black_box(std::array::from_fn(|field| FIELDS[field](sizes[field])))
    }
    let rate = rate(world);
    let sizes: [usize; 8] = std::array::from_fn(|_| world.size());
    let size: usize = sizes.iter().sum();
    Behaviour::new(move |world| {
        for _ in 0..world.births(rate, size) {
            let graph = world.serve(|| leak_object_graph(&sizes));
            world.born(graph.len() as u64);
            graph.into_iter().for_each(|block| world.leak(block));
        }
    })
}

/// One caller of a shared helper leaks what it gets; 60 others free it.
fn below_helper(world: &mut World<'_>) -> Behaviour {
    #[inline(never)]
    fn shared_helper(size: usize) -> Block {
        black_box("shared_helper");
        Vec::with_capacity(size)
    }
    #[inline(never)]
    fn leak_below_helper(size: usize) -> Block {
        black_box(shared_helper(size))
    }
    let (rate, size) = (rate(world), world.size());
    let life = world.log_between(0.5, 5.0);
    // The healthy callers together allocate six times as much as the leaking one.
    let others = 6.0 * rate;
    Behaviour::new(move |world| {
        leak(world, leak_below_helper, rate, size);
        for _ in 0..world.births(others, size) {
            let caller = world.index(CALLERS.len());
            let block = world.serve_through(caller, || shared_helper(size));
            let life = world.exponential(life);
            world.free_after(block, life);
        }
    })
}

/// Sizes from a few words to some pages.
fn mixed_sizes(world: &mut World<'_>) -> Behaviour {
    site!(leak_mixed_sizes);
    /// The mean of the log-uniform sizes below: their range divided by the logarithm of their
    /// ratio.
    const MEAN: f64 = (32_768.0 - 32.0) / 6.93;
    let rate = rate(world);
    Behaviour::new(move |world| {
        for _ in 0..world.births(rate, MEAN as usize) {
            let size = world.log_between(32.0, 32_768.0) as usize;
            let block = world.allocate(leak_mixed_sizes, size);
            world.leak(block);
        }
    })
}
