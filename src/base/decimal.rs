//! Numbers as text. Every hit has an `Age`. This is faster than `format!`, and a table saves an
//! allocation.

use bytes::Bytes;
use http::HeaderValue;

/// A number's digits. They are at the end of the array, from the index on.
pub(crate) fn decimal(mut number: u64) -> ([u8; 20], usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        if let Some(digit) = digits.get_mut(start) {
            *digit = b'0' + (number % 10) as u8;
        }
        number /= 10;
        if number == 0 || start == 0 {
            return (digits, start);
        }
    }
}

/// A number as a field's value. A small number, as most ages are, is a slice of the table, without
/// an allocation.
pub(crate) fn number_value(number: u64) -> HeaderValue {
    let digits = usize::try_from(number).ok().and_then(|number| {
        let end = number.checked_add(1)?.checked_mul(WIDTH)?;
        NUMBERS.get(end - width(number)..end)
    });
    let value = match digits {
        Some(digits) => HeaderValue::from_maybe_shared(Bytes::from_static(digits)),
        None => {
            let (digits, start) = decimal(number);
            HeaderValue::from_bytes(digits.get(start..).unwrap_or(b"0"))
        }
    };
    value.unwrap_or(const { HeaderValue::from_static("0") })
}

/// How many digits a number of the table has.
const fn width(number: usize) -> usize {
    match number {
        0..=9 => 1,
        10..=99 => 2,
        100..=999 => 3,
        _ => WIDTH,
    }
}

const WIDTH: usize = 4;

/// The numbers from 0 to 9999, each with leading zeros.
static NUMBERS: [u8; 10_000 * WIDTH] = numbers();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated when this is compiled, where an index out of bounds is an error"
)]
const fn numbers() -> [u8; 10_000 * WIDTH] {
    let mut digits = [b'0'; 10_000 * WIDTH];
    let mut place = 0;
    while place < digits.len() {
        let tens = [1000, 100, 10, 1];
        digits[place] += (place / WIDTH / tens[place % WIDTH] % 10) as u8;
        place += 1;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_plain_digits() {
        for seconds in (0..10_010).chain([u64::MAX / 4, u64::MAX]) {
            assert_eq!(number_value(seconds), seconds.to_string());
        }
    }
}
