//! What a sample stands for: the Horvitz–Thompson estimator, as in [`heapdrift::Estimate`].

use heapdrift::snapshot::LiveSample;

/// How many objects a sample stands for: `1/p`.
pub(crate) fn objects(sample: &LiveSample) -> f64 {
    1.0 / sample.probability()
}

/// What a sample adds to the variance of a number of objects: `(1 − p)/p²`.
pub(crate) fn variance(sample: &LiveSample) -> f64 {
    let p = sample.probability();
    (1.0 - p) / (p * p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_stands_for_the_inverse_of_its_probability() {
        let mut live = heapdrift::snapshot::LiveSamples::default();
        live.size = vec![1000, 1000, 0];
        live.interval = vec![1.0, 1000.0, 1e9];
        (live.id, live.stack) = (vec![0; 3], vec![0; 3]);
        (live.birth_ms, live.birth_tick, live.reallocs) = (vec![0; 3], vec![0; 3], vec![0; 3]);
        let samples: Vec<LiveSample> = live.iter().collect();
        let p = 1.0 - (-1.0_f64).exp();
        assert_eq!((objects(&samples[0]), variance(&samples[0])), (1.0, 0.0));
        assert!((objects(&samples[1]) - 1.0 / p).abs() < 1e-12);
        assert!((variance(&samples[1]) - (1.0 - p) / (p * p)).abs() < 1e-12);
        assert!(objects(&samples[2]).is_finite());
    }
}
