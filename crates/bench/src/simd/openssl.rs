#![expect(unsafe_code, reason = "functions of a C library, found when the program runs")]
//! OpenSSL's digests, by the libcrypto of this machine: `EVP_DigestInit_ex2` and its kin (OpenSSL 3)
//! with an algorithm that was fetched once, and one context for all messages.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::mem::transmute;
use std::ptr;

const LIBRARY: &CStr = c"libcrypto.so.3";

/// Longest digest that it may write (`EVP_MAX_MD_SIZE`).
const DIGEST_LEN_MAX: usize = 64;

type Fetch = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> *mut c_void;
type NewContext = unsafe extern "C" fn() -> *mut c_void;
type Start = unsafe extern "C" fn(*mut c_void, *const c_void, *const c_void) -> c_int;
type Update = unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> c_int;
type Finish = unsafe extern "C" fn(*mut c_void, *mut u8, *mut c_uint) -> c_int;

/// An algorithm of the library. It and its context stay until the program ends.
#[derive(Debug)]
pub(super) struct OpenSsl {
    algorithm: *const c_void,
    context: *mut c_void,
    start: Start,
    update: Update,
    finish: Finish,
}

impl OpenSsl {
    /// `None` if there is no such library, or it has no such algorithm.
    pub(super) fn new(algorithm: &CStr) -> Option<Self> {
        // SAFETY: the library's start code expects nothing of its caller.
        let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return None;
        }
        let symbol = |name: &CStr| {
            // SAFETY: `library` was opened above and is never closed.
            let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
            (!symbol.is_null()).then_some(symbol)
        };
        // SAFETY: the type is that of the function in <openssl/evp.h>.
        let fetch = unsafe { transmute::<*mut c_void, Fetch>(symbol(c"EVP_MD_fetch")?) };
        // SAFETY: as above.
        let new = unsafe { transmute::<*mut c_void, NewContext>(symbol(c"EVP_MD_CTX_new")?) };
        // SAFETY: as above.
        let start = unsafe { transmute::<*mut c_void, Start>(symbol(c"EVP_DigestInit_ex2")?) };
        // SAFETY: as above.
        let update = unsafe { transmute::<*mut c_void, Update>(symbol(c"EVP_DigestUpdate")?) };
        // SAFETY: as above.
        let finish = unsafe { transmute::<*mut c_void, Finish>(symbol(c"EVP_DigestFinal_ex")?) };
        // SAFETY: the default context and properties are null, and the name ends with a zero.
        let algorithm = unsafe { fetch(ptr::null_mut(), algorithm.as_ptr(), ptr::null()) };
        // SAFETY: it takes nothing.
        let context = unsafe { new() };
        let is_there = !algorithm.is_null() && !context.is_null();
        is_there.then_some(Self { algorithm, context, start, update, finish })
    }

    /// Appends the digest of `message` to `out`.
    pub(super) fn hash(&self, message: &[u8], out: &mut Vec<u8>) {
        let mut digest = [0; DIGEST_LEN_MAX];
        let mut digest_len = 0;
        // SAFETY: `algorithm` and `context` are those that the library made, and `self` is not
        // shared with another thread; `message` is as long as is said; `digest` has room for any.
        let results = unsafe {
            [
                (self.start)(self.context, self.algorithm, ptr::null()),
                (self.update)(self.context, message.as_ptr().cast(), message.len()),
                (self.finish)(self.context, digest.as_mut_ptr(), &raw mut digest_len),
            ]
        };
        assert_eq!(results, [1; 3], "OpenSSL");
        out.extend_from_slice(&digest[..digest_len as usize]);
    }
}
