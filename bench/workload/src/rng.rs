/// SplitMix64 and what is drawn from it.
#[derive(Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 up to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of the numbers below `k`.
    pub(crate) fn below(&mut self, k: usize) -> usize {
        (self.unit() * k as f64) as usize
    }

    /// One of the numbers below `k`, the small ones more often.
    pub(crate) fn zipf(&mut self, k: usize) -> usize {
        let u = self.unit();
        ((k as f64 + 1.0).powf(u) - 1.0) as usize % k
    }

    pub(crate) fn log_normal(&mut self, mu: f64, sigma: f64) -> f64 {
        let (a, b) = (self.unit().max(1e-12), self.unit());
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        (mu + sigma * normal).exp()
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(self.unit().max(1e-9)).ln()
    }

    pub(crate) fn trace_id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next().to_be_bytes());
        id[8..].copy_from_slice(&self.next().to_be_bytes());
        id
    }

    pub(crate) fn uuid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        )
    }

    pub(crate) fn hex(&mut self, digits: usize) -> String {
        (0..digits)
            .map(|_| b"0123456789abcdef"[self.below(16)] as char)
            .collect()
    }
}
