//! Huge pages for weights. With pages of 4 KiB a product that streams its weights spends a fifth of its time on finding
//! out where the next page lies.

use std::ops::Range;

use libc::{MADV_COLLAPSE, MADV_HUGEPAGE, c_int, c_void, madvise};

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
pub struct LoadingHeap(());

impl LoadingHeap {
    /// Grows the heap by `bytes`. What is never touched costs nothing.
    pub fn grow(bytes: usize) -> LoadingHeap {
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
            if !block.is_null() && after > start {
                madvise(start as *mut c_void, after - start, MADV_HUGEPAGE);
            }
            libc::free(block);
        }
        LoadingHeap(())
    }
}

impl Drop for LoadingHeap {
    fn drop(&mut self) {
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
    fn contents_stay_and_odd_slices_are_fine() {
        let values: Vec<f32> = (0..3 << 20).map(|i| i as f32).collect();
        use_huge_pages([&values[1..], &[], &values[7..9]]);
        assert!(values.iter().enumerate().all(|(i, value)| *value == i as f32));
    }
}
