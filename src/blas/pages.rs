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
