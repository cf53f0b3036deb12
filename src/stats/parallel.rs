//! The same work on many items, on all cores, with results that do not depend on how many there are.

use std::sync::Mutex;

/// Applies a function to every item; the results keep the items' order. A single item is worked on where the caller is.
pub fn in_parallel<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    if workers <= 1 {
        return items.into_iter().map(work).collect();
    }
    const HELD: &str = "no worker panics while it holds the lock";
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().expect(HELD).next();
    let worker = || {
        while let Some((place, item)) = next() {
            let result = work(item);
            results.lock().expect(HELD).push((place, result));
        }
    };
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(worker))));
    let mut results = results.into_inner().expect("all workers have ended");
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The lengths of consecutive parts of `total`, each with its number: the number is the stream of its random draws, so that
/// the first part is what a total of that length would be.
pub(crate) fn parts(total: usize, longest: usize) -> Vec<(u64, usize)> {
    (0..total.div_ceil(longest)).map(|part| (part as u64, longest.min(total - part * longest))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<u64> = (0..100).collect();
        assert_eq!(in_parallel(items, |item| 2 * item), (0..100).map(|item| 2 * item).collect::<Vec<_>>());
        assert_eq!(in_parallel(Vec::new(), |item: u64| 2 * item), Vec::<u64>::new());
    }

    #[test]
    fn parts_add_up() {
        assert_eq!(parts(25, 10), [(0, 10), (1, 10), (2, 5)]);
        assert_eq!((parts(10, 10), parts(0, 10)), (vec![(0, 10)], Vec::new()));
    }
}
