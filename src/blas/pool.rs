//! Threads that share the parts of one job, taken one at a time: a thread that was held up by another process takes
//! fewer of them. Between jobs they look out for the next one briefly and then sleep.

use std::hint::spin_loop;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long an idle worker looks out for the next job: about the gap between two products of one forward.
const LOOK_OUT: Duration = Duration::from_micros(150);
/// How long the caller looks out for the workers' last parts. Short: where a worker lost its core, a sleeping caller
/// leaves its own core to it.
const WAIT: Duration = Duration::from_micros(20);
/// How often a worker may leave a core that it shares with the caller.
const MOVES: Duration = Duration::from_millis(1);

/// `parts` calls of `work`, each with its own number.
struct Job<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    parts: usize,
    next: AtomicUsize,
}

impl Job<'_> {
    fn take_parts(&self) {
        loop {
            let part = self.next.fetch_add(1, SeqCst);
            if part >= self.parts {
                return;
            }
            (self.work)(part);
        }
    }
}

struct Shared {
    /// The open job, which lies on the stack of [`Pool::run`]; null when there is none.
    job: AtomicPtr<Job<'static>>,
    /// Counts jobs, so that a worker looks into each one once.
    jobs: AtomicUsize,
    /// Workers that may hold the job's address. The caller stays until there are none.
    inside: AtomicUsize,
    caller_sleeps: AtomicBool,
    /// The core that the caller was on when it opened the job.
    caller_core: AtomicI32,
    lock: Mutex<()>,
    emptied: Condvar,
}

pub(super) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Thread>,
    busy: AtomicBool,
}

impl Pool {
    /// A pool in which the caller and `threads - 1` workers work.
    pub(super) fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            job: AtomicPtr::new(ptr::null_mut()),
            jobs: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            caller_sleeps: AtomicBool::new(false),
            caller_core: AtomicI32::new(-1),
            lock: Mutex::new(()),
            emptied: Condvar::new(),
        });
        let workers = (1..threads).map_while(|number| {
            let shared = Arc::clone(&shared);
            let name = format!("blas-{number}");
            // Where the system refuses another thread, fewer do the same work.
            thread::Builder::new().name(name).spawn(move || worker(&shared)).ok()
        });
        let workers = workers.map(|handle| handle.thread().clone()).collect();
        Pool { shared, workers, busy: AtomicBool::new(false) }
    }

    pub(super) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` once for every part and returns when all calls have returned.
    pub(super) fn run(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        // A second caller meanwhile (another stream of MLX) does its work alone.
        if parts < 2 || self.workers.is_empty() || self.busy.swap(true, SeqCst) {
            (0..parts).for_each(work);
            return;
        }
        let job = Job { work, parts, next: AtomicUsize::new(0) };
        self.shared.caller_core.store(current_core(), SeqCst);
        self.shared.job.store(ptr::from_ref(&job).cast_mut().cast(), SeqCst);
        self.shared.jobs.fetch_add(1, SeqCst);
        self.workers.iter().take(parts - 1).for_each(Thread::unpark);
        job.take_parts();
        self.shared.job.store(ptr::null_mut(), SeqCst);
        self.shared.wait_until_empty();
        self.busy.store(false, SeqCst);
    }
}

impl Shared {
    fn wait_until_empty(&self) {
        if spin_until(WAIT, || self.inside.load(SeqCst) == 0) {
            return;
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.caller_sleeps.store(true, SeqCst);
        while self.inside.load(SeqCst) != 0 {
            guard = self.emptied.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.caller_sleeps.store(false, SeqCst);
    }

    fn help(&self) {
        // The order of these two and of the caller's null and wait is what keeps the job alive while it is used.
        self.inside.fetch_add(1, SeqCst);
        let job = self.job.load(SeqCst);
        if !job.is_null() {
            // SAFETY: the caller keeps the job until it has set the address to null and seen nobody inside.
            unsafe { (*job).take_parts() };
        }
        if self.inside.fetch_sub(1, SeqCst) == 1 && self.caller_sleeps.load(SeqCst) {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.emptied.notify_one();
        }
    }
}

/// A worker's life. A panic in a part ends the process (it cannot unwind from here): its caller would wait for ever.
extern "C" fn worker(shared: &Shared) {
    let mut seen = 0;
    let mut moved = Instant::now();
    loop {
        if spin_until(LOOK_OUT, || shared.jobs.load(SeqCst) != seen) {
            seen = shared.jobs.load(SeqCst);
            let core = current_core();
            if core == shared.caller_core.load(SeqCst) && moved.elapsed() > MOVES {
                leave(core);
                moved = Instant::now();
            }
            shared.help();
        } else {
            thread::park();
        }
    }
}

/// The core that this thread is on; -1 where the system does not say.
fn current_core() -> i32 {
    if cfg!(miri) {
        return -1;
    }
    // SAFETY: reads a number.
    unsafe { libc::sched_getcpu() }
}

/// Moves this thread to another core than `core`, if it may run on one. A thread that is woken often lands where the one
/// that woke it runs, and the system takes long to part the two.
fn leave(core: i32) {
    // SAFETY: plain bit sets of the size that is given.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        if core < 0 || libc::sched_getaffinity(0, size, &mut allowed) != 0 || libc::CPU_COUNT(&allowed) < 2 {
            return;
        }
        let mut others = allowed;
        libc::CPU_CLR(core as usize, &mut others);
        libc::sched_setaffinity(0, size, &others);
        libc::sched_setaffinity(0, size, &allowed);
    }
}

/// Looks until `done` or until `limit` has passed; says whether it is done.
fn spin_until(limit: Duration, done: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..32 {
            if done() {
                return true;
            }
            spin_loop();
        }
        if start.elapsed() >= limit {
            return false;
        }
    }
}
