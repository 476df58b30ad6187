use crate::hash::hash_u64;

/// Running numbers for keys, in the order in which they come.
#[derive(Default)]
pub(crate) struct Numbers {
    pub(crate) keys: Vec<u64>,
    /// Open addressing: numbers plus one; zero is free.
    table: Vec<u32>,
}

impl Numbers {
    #[inline]
    pub(crate) fn of(&mut self, key: u64) -> u32 {
        if (self.keys.len() + 1) * 2 > self.table.len() {
            self.grow();
        }
        let at = self.place(key);
        if self.table[at] == 0 {
            self.keys.push(key);
            self.table[at] = self.keys.len() as u32;
        }
        self.table[at] - 1
    }

    #[inline]
    fn place(&self, key: u64) -> usize {
        let mask = self.table.len() - 1;
        let mut at = hash_u64(0, key) as usize & mask;
        while self.table[at] != 0 && self.keys[self.table[at] as usize - 1] != key {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        self.table = vec![0; (self.table.len() * 2).max(64)];
        for number in 0..self.keys.len() {
            let at = self.place(self.keys[number]);
            self.table[at] = number as u32 + 1;
        }
    }
}
