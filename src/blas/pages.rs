//! Huge pages for weights. With pages of 4 KiB a product that streams its weights spends a fifth of its time on finding
//! out where the next page lies.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use libc::{MADV_COLLAPSE, MADV_HUGEPAGE, MADV_POPULATE_WRITE, c_int, c_void, madvise};

/// Memory allocators put this much between neighbours at most.
const GAP: usize = 16 << 10;
/// The smallest run of memory that is worth asking for: one huge page.
const SMALLEST: usize = 2 << 20;

/// Asks the kernel to back the memory of `values` with huge pages, neighbours together; call it once after loading a
/// model. Takes a fraction of a second for a gigabyte, changes no value, and does nothing where the kernel does not
/// support it. Returns the bytes for which it was asked.
pub fn use_huge_pages<'a, T: 'a>(values: impl IntoIterator<Item = &'a [T]>) -> usize {
    let ranges = values.into_iter().map(|slice| {
        let start = slice.as_ptr() as usize;
        start..start + size_of_val(slice)
    });
    let runs = runs(ranges.collect());
    runs.iter().filter(|run| run.len() >= SMALLEST).map(advise).sum()
}

/// Arrays of at least this size are given back to the system when they are freed; smaller ones are kept for the next.
#[cfg(target_env = "gnu")]
const GIVEN_BACK: c_int = 32 << 20;

/// The C heap while a model is loaded: grown by what its weights need, in huge pages from the beginning, and everything
/// is allocated there. Asking for huge pages once the weights lie in small ones would copy them all.
pub struct LoadingHeap {
    /// Brings pages in ahead of the loading, until it is told to stop.
    ahead: Option<(JoinHandle<()>, Arc<AtomicBool>)>,
}

impl LoadingHeap {
    /// Grows the heap by `bytes`. What is never touched costs nothing.
    pub fn grow(bytes: usize) -> LoadingHeap {
        LoadingHeap::grow_ahead(bytes, 0)
    }

    /// Grows the heap by `bytes`, of which the first `needed` will be touched: a thread brings these in meanwhile, as new memory
    /// can take longer than what is done with it.
    pub fn grow_ahead(bytes: usize, needed: usize) -> LoadingHeap {
        #[cfg(target_env = "gnu")]
        // SAFETY: settings of the allocator, and a block that is freed at once; the advice changes no content.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, c_int::MAX);
            let before = libc::sbrk(0) as usize;
            // Hidden from the compiler, which leaves out a block that is only freed.
            let block = std::hint::black_box(libc::malloc(bytes));
            let after = libc::sbrk(0) as usize;
            let start = before.next_multiple_of(SMALLEST);
            let grown = !block.is_null() && after > start;
            if grown {
                madvise(start as *mut c_void, after - start, MADV_HUGEPAGE);
            }
            libc::free(block);
            if grown && needed > 0 {
                return LoadingHeap { ahead: bring_in(start..after.min(start + needed)) };
            }
        }
        LoadingHeap { ahead: None }
    }
}

/// Brings in the pages of a part of the heap in a thread of its own.
fn bring_in(part: Range<usize>) -> Option<(JoinHandle<()>, Arc<AtomicBool>)> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = std::thread::Builder::new().spawn(move || {
        // A piece at a time, as nothing can be mapped meanwhile.
        for start in part.clone().step_by(8 * SMALLEST) {
            let length = (part.end - start).min(8 * SMALLEST);
            // SAFETY: it changes no content, and fails where there is nothing.
            let done = unsafe { madvise(start as *mut c_void, length, MADV_POPULATE_WRITE) } == 0;
            if !done || stopped.load(Ordering::Relaxed) {
                return;
            }
        }
    });
    thread.ok().map(|thread| (thread, stop))
}

impl Drop for LoadingHeap {
    fn drop(&mut self) {
        if let Some((thread, stop)) = self.ahead.take() {
            stop.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
        #[cfg(target_env = "gnu")]
        // SAFETY: settings of the allocator; the first is its own default.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 65536);
            libc::mallopt(libc::M_MMAP_THRESHOLD, GIVEN_BACK);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 8 * GIVEN_BACK);
        }
    }
}

/// Joins ranges that touch each other but for a gap.
fn runs(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut runs: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match runs.last_mut() {
            Some(last) if range.start <= last.end + GAP => last.end = last.end.max(range.end),
            _ => runs.push(range),
        }
    }
    runs
}

/// Bytes for which the kernel was asked.
fn advise(run: &Range<usize>) -> usize {
    // Whole pages of 64 KiB, which every page size in use divides.
    let start = run.start.next_multiple_of(64 << 10);
    let length = (run.end - start) / (64 << 10) * (64 << 10);
    // SAFETY: the advice moves memory between physical pages; addresses and contents stay as they are, also for
    // neighbours in the gaps.
    let advise = |advice: c_int| unsafe { madvise(start as *mut c_void, length, advice) } == 0;
    if advise(MADV_HUGEPAGE) && advise(MADV_COLLAPSE) { length } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined_and_strangers_are_not() {
        let far = 1 << 30;
        let joined = runs(vec![far..far + 100, 4096..8192, 8192 + GAP..40_000, 5000..6000]);
        assert_eq!(joined, [4096..40_000, far..far + 100]);
    }

    #[test]
    fn pages_are_brought_in_where_the_kernel_can() {
        let length = 3 * SMALLEST;
        // SAFETY: a mapping of its own; each call stays within it.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let start = libc::mmap(std::ptr::null_mut(), length, access, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            let last = start.byte_add(length - 4096);
            let mut there = [0u8];
            assert_eq!(libc::mincore(last, 4096, there.as_mut_ptr()), 0);
            assert_eq!(there[0] & 1, 0, "it is there before anyone asked");
            let (thread, _) = bring_in(start as usize..start as usize + length).unwrap();
            thread.join().unwrap();
            assert_eq!(libc::mincore(last, 4096, there.as_mut_ptr()), 0);
            let can = madvise(start, 4096, MADV_POPULATE_WRITE) == 0;
            assert_eq!(there[0] & 1 == 1, can);
            libc::munmap(start, length);
        }
    }

    #[test]
    fn pages_that_are_brought_in_keep_what_is_written_meanwhile() {
        let heap = LoadingHeap::grow_ahead(64 << 20, 64 << 20);
        let values: Vec<usize> = (0..7 << 20).collect();
        assert!(values.iter().enumerate().all(|(i, value)| i == *value));
        drop(heap);
        assert!(values.iter().enumerate().all(|(i, value)| i == *value));
    }

    #[test]
    fn contents_stay_and_odd_slices_are_fine() {
        let values: Vec<f32> = (0..3 << 20).map(|i| i as f32).collect();
        use_huge_pages([&values[1..], &[], &values[7..9]]);
        assert!(values.iter().enumerate().all(|(i, value)| *value == i as f32));
    }
}
