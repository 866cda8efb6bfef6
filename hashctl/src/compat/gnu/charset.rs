#![expect(unsafe_code, reason = "the locale's character classes are asked of the C library")]
//! Characters that the locale of messages can show, as iswprint(3) knows them.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::sync::OnceLock;

unsafe extern "C" {
    fn iswprint_l(c: c_uint, locale: libc::locale_t) -> c_int;
    fn nl_langinfo(item: libc::nl_item) -> *const c_char;
    fn uselocale(locale: libc::locale_t) -> libc::locale_t;
}

/// All categories; the crate `libc` has no constant for musl's.
#[cfg(not(target_env = "musl"))]
const ALL_CATEGORIES: c_int = libc::LC_ALL_MASK;
#[cfg(target_env = "musl")]
const ALL_CATEGORIES: c_int = 0x7fff_ffff;

/// The locale that the environment asks for, if it is one of UTF-8: as an address, because every thread
/// may use it.
static UTF8_LOCALE: OnceLock<Option<usize>> = OnceLock::new();

fn utf8_locale() -> Option<libc::locale_t> {
    let address = UTF8_LOCALE.get_or_init(|| {
        // SAFETY: the name is a C string, and there is no base to be changed. One that is not installed
        // makes it fail, also in a category that does not matter here, as setlocale(3) does.
        let locale = unsafe { libc::newlocale(ALL_CATEGORIES, c"".as_ptr(), std::ptr::null_mut()) };
        if locale.is_null() {
            return None;
        }
        // SAFETY: the locale is valid and never freed, and the thread's own is put back. The answer is a
        // C string in it. In a static program nl_langinfo_l(3) answers for another locale.
        let is_utf8 = unsafe {
            let own = uselocale(locale);
            let codeset = CStr::from_ptr(nl_langinfo(libc::CODESET));
            uselocale(own);
            codeset == c"UTF-8"
        };
        is_utf8.then_some(locale as usize)
    });
    address.map(|address| address as libc::locale_t)
}

/// True if messages can show more than ASCII.
pub(super) fn is_utf8() -> bool {
    utf8_locale().is_some()
}

/// True for a character that messages show as it is.
pub(super) fn is_shown(c: char) -> bool {
    match utf8_locale() {
        // SAFETY: the locale is valid, and any number may be asked for.
        Some(locale) => unsafe { iswprint_l(u32::from(c), locale) != 0 },
        None => matches!(c, ' '..='~'),
    }
}
