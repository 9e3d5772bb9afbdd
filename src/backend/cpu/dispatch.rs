//! From one generic micro-kernel to one function per instruction set.

/// Defines `fn $name(isa, args..)` that runs the generic, always inlined `$generic::<S>(args..)`
/// compiled for the instruction set `isa`.
macro_rules! on_isa {
    ($(#[$doc:meta])* fn $name:ident / $generic:ident ( $($arg:ident : $ty:ty),* $(,)? ) $(-> $ret:ty)?) => {
        $(#[$doc])*
        unsafe fn $name(isa: $crate::backend::cpu::simd::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            unsafe fn avx512($($arg: $ty),*) $(-> $ret)? {
                unsafe { $generic::<$crate::backend::cpu::simd::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $ty),*) $(-> $ret)? {
                unsafe { $generic::<$crate::backend::cpu::simd::Avx2>($($arg),*) }
            }
            // SAFETY: the caller promises that the machine has `isa`.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    $crate::backend::cpu::simd::Isa::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::backend::cpu::simd::Isa::Avx2 => avx2($($arg),*),
                    $crate::backend::cpu::simd::Isa::Portable => {
                        $generic::<$crate::backend::cpu::simd::Portable>($($arg),*)
                    }
                }
            }
        }
    };
}
pub(crate) use on_isa;

/// Gives a generic, always inlined micro-kernel a function of its own on every instruction set:
/// `$trait::$name` calls `$generic::<Self, ..>` behind a call that is never inlined. Inlined
/// into its caller, a tile of 24 accumulators is spilled to memory in its inner loop.
macro_rules! isolated {
    ($(#[$doc:meta])* $vis:vis trait $trait:ident: $generic:ident as $name:ident
        <$(const $c:ident : $ct:ty),*> ( $($arg:ident : $ty:ty),* $(,)? )) => {
        $(#[$doc])*
        $vis trait $trait: $crate::backend::cpu::simd::Simd {
            unsafe fn $name<$(const $c: $ct),*>($($arg: $ty),*);
        }
        #[cfg(target_arch = "x86_64")]
        impl $trait for $crate::backend::cpu::simd::Avx512 {
            #[inline(always)]
            unsafe fn $name<$(const $c: $ct),*>($($arg: $ty),*) {
                #[target_feature(enable = "avx512f")]
                #[inline(never)]
                unsafe fn own<$(const $c: $ct),*>($($arg: $ty),*) {
                    unsafe { $generic::<$crate::backend::cpu::simd::Avx512, $($c),*>($($arg),*) }
                }
                unsafe { own::<$($c),*>($($arg),*) }
            }
        }
        #[cfg(target_arch = "x86_64")]
        impl $trait for $crate::backend::cpu::simd::Avx2 {
            #[inline(always)]
            unsafe fn $name<$(const $c: $ct),*>($($arg: $ty),*) {
                #[target_feature(enable = "avx2,fma")]
                #[inline(never)]
                unsafe fn own<$(const $c: $ct),*>($($arg: $ty),*) {
                    unsafe { $generic::<$crate::backend::cpu::simd::Avx2, $($c),*>($($arg),*) }
                }
                unsafe { own::<$($c),*>($($arg),*) }
            }
        }
        impl $trait for $crate::backend::cpu::simd::Portable {
            #[inline(never)]
            unsafe fn $name<$(const $c: $ct),*>($($arg: $ty),*) {
                unsafe { $generic::<$crate::backend::cpu::simd::Portable, $($c),*>($($arg),*) }
            }
        }
    };
}
pub(crate) use isolated;
