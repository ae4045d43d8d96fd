// Vectors of sixteen floats, on a GPU and, for the tests, on a CPU.
//
// A team of 16 / W threads holds sixteen lanes, W of them in each thread: thread t of the team holds the
// lanes t, t + 16 / W, and so on. A GPU uses W = 1, 2 or 4. A C++ compiler compiles the same source with
// W = 16, where a team is one thread and a block is one squad of one team, so that tests without a GPU
// run every line except those marked as not reached.
//
// Invariant: an operation gives the same bits as the operation of that name in `lanes.rs`. Each operation
// is a single IEEE operation, called by name, so that no compiler can contract two.
#pragma once

#ifdef __CUDACC__

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
#define HERE __device__ __forceinline__
#define KERNEL extern "C" __global__ void
#define SHARED __shared__
#define UNROLL _Pragma("unroll")
// Wide maps keep their components in local memory; unrolled loops would be megabytes of code.
#define COMPONENTS _Pragma("unroll (DIM <= 4 ? DIM : 1)")

HERE float add1(float a, float b) { return __fadd_rn(a, b); }
HERE float sub1(float a, float b) { return __fsub_rn(a, b); }
HERE float mul1(float a, float b) { return __fmul_rn(a, b); }
HERE float div1(float a, float b) { return __fdiv_rn(a, b); }
HERE float fma1(float a, float b, float c) { return __fmaf_rn(a, b, c); }
HERE float sqrt1(float a) { return __fsqrt_rn(a); }
HERE double sub2(double a, double b) { return __dsub_rn(a, b); }
HERE double div2(double a, double b) { return __ddiv_rn(a, b); }
HERE float rounded(double a) { return __double2float_rn(a); }
// Returns the other number where one is NaN.
HERE float min1(float a, float b) { return fminf(a, b); }
HERE float max1(float a, float b) { return fmaxf(a, b); }
HERE int bits(float a) { return __float_as_int(a); }
HERE float number(int a) { return __int_as_float(a); }
HERE float whole(int a) { return __int2float_rn(a); }
HERE u32 high(u32 a, u32 b) { return __umulhi(a, b); }
HERE u32 count_ones(u32 a) { return __popc(a); }
// Reads memory that no thread writes during the kernel.
template <typename T> HERE T read(const T* at) { return __ldg(at); }

HERE u32 thread() { return threadIdx.x; }
HERE u32 threads() { return blockDim.x; }
HERE u32 block() { return blockIdx.x; }
HERE void wait_for_block() { __syncthreads(); }

// Bit mask of the team's threads within their warp.
template <int W> HERE u32 team() { return (0xffffffffu >> (32 - 16 / W)) << (thread() & 31 & ~(16 / W - 1)); }
template <int W> HERE void wait_for_team() { __syncwarp(team<W>()); }
template <int W> HERE u32 ballot1(bool is) {
    return (__ballot_sync(team<W>(), is) & team<W>()) >> (thread() & 31 & ~(16 / W - 1));
}
template <int W> HERE float exchange(float a, int distance) { return __shfl_xor_sync(team<W>(), a, distance, 16 / W); }

// A squad: the teams of a warp, which process one item together.
enum { MATES = 32 };
HERE void wait_for_squad() { __syncwarp(); }
HERE u32 squad_ballot(bool is) { return __ballot_sync(0xffffffffu, is); }
HERE u64 from_mate(u64 a, u32 mate) { return __shfl_sync(0xffffffffu, a, mate); }
HERE u32 lowest_bit(u32 a) { return __ffs(a) - 1; }
// Shared memory of a block, of the size given at the launch.
#define ASKED_FOR(name) extern __shared__ u64 name[]

#else

#include <cmath>
#include <cstdint>
#include <cstring>

typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;
#define HERE inline
#define KERNEL extern "C" void
#define SHARED static thread_local
#define UNROLL
#define COMPONENTS

struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };

HERE float add1(float a, float b) { return a + b; }
HERE float sub1(float a, float b) { return a - b; }
HERE float mul1(float a, float b) { return a * b; }
HERE float div1(float a, float b) { return a / b; }
HERE float fma1(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
HERE float sqrt1(float a) { return std::sqrt(a); }
HERE double sub2(double a, double b) { return a - b; }
HERE double div2(double a, double b) { return a / b; }
HERE float rounded(double a) { return (float)a; }
using std::floor;
HERE float min1(float a, float b) { return a < b ? a : b; }
HERE float max1(float a, float b) { return a > b ? a : b; }
HERE int bits(float a) { int b; std::memcpy(&b, &a, 4); return b; }
HERE float number(int a) { float b; std::memcpy(&b, &a, 4); return b; }
HERE float whole(int a) { return (float)a; }
HERE u32 high(u32 a, u32 b) { return (u32)(((u64)a * b) >> 32); }
HERE u32 count_ones(u32 a) { return (u32)__builtin_popcount(a); }
template <typename T> HERE T read(const T* at) { return *at; }

// The launch: a grid of blocks with one thread each.
static thread_local u32 block_now;
HERE u32 thread() { return 0; }
HERE u32 threads() { return 1; }
HERE u32 block() { return block_now; }
HERE void wait_for_block() {}
template <int W> HERE void wait_for_team() {}
template <int W> HERE u32 ballot1(bool) { return 0; }
template <int W> HERE float exchange(float a, int) { return a; }

enum { MATES = 1 };
HERE void wait_for_squad() {}
HERE u32 squad_ballot(bool is) { return is; }
HERE u64 from_mate(u64 a, u32) { return a; }
HERE u32 lowest_bit(u32 a) { return (u32)__builtin_ctz(a); }
#define ASKED_FOR(name) static thread_local u64 name[1 << 16]

#endif

enum { LANES = 16 };

// The lanes that a thread holds.
template <int W> struct Lanes {
    enum { TEAM = LANES / W };
    float at[W];
    static HERE u32 of(int j) { return thread() % TEAM + j * TEAM; }
};

#define EACH for (int j = 0; j < W; j++)
#define OF(expression) \
    Lanes<W> out; \
    UNROLL EACH out.at[j] = expression; \
    return out

template <int W> HERE Lanes<W> splat(float a) { OF(a); }
template <int W> HERE Lanes<W> operator+(Lanes<W> a, Lanes<W> b) { OF(add1(a.at[j], b.at[j])); }
template <int W> HERE Lanes<W> operator-(Lanes<W> a, Lanes<W> b) { OF(sub1(a.at[j], b.at[j])); }
template <int W> HERE Lanes<W> operator*(Lanes<W> a, Lanes<W> b) { OF(mul1(a.at[j], b.at[j])); }
template <int W> HERE Lanes<W> operator/(Lanes<W> a, Lanes<W> b) { OF(div1(a.at[j], b.at[j])); }
// a · b + c, rounded once.
template <int W> HERE Lanes<W> fma(Lanes<W> a, Lanes<W> b, Lanes<W> c) { OF(fma1(a.at[j], b.at[j], c.at[j])); }
template <int W> HERE Lanes<W> fma(Lanes<W> a, float b, Lanes<W> c) { OF(fma1(a.at[j], b, c.at[j])); }
template <int W> HERE Lanes<W> fma(Lanes<W> a, Lanes<W> b, float c) { OF(fma1(a.at[j], b.at[j], c)); }
template <int W> HERE Lanes<W> fma(Lanes<W> a, float b, float c) { OF(fma1(a.at[j], b, c)); }
template <int W> HERE Lanes<W> operator+(Lanes<W> a, float b) { OF(add1(a.at[j], b)); }
template <int W> HERE Lanes<W> operator-(Lanes<W> a, float b) { OF(sub1(a.at[j], b)); }
template <int W> HERE Lanes<W> operator-(float a, Lanes<W> b) { OF(sub1(a, b.at[j])); }
template <int W> HERE Lanes<W> operator*(Lanes<W> a, float b) { OF(mul1(a.at[j], b)); }
template <int W> HERE Lanes<W> operator/(float a, Lanes<W> b) { OF(div1(a, b.at[j])); }
template <int W> HERE Lanes<W> least(Lanes<W> a, float b) { OF(min1(a.at[j], b)); }
template <int W> HERE Lanes<W> most(Lanes<W> a, float b) { OF(max1(a.at[j], b)); }
template <int W> HERE Lanes<W> root(Lanes<W> a) { OF(sqrt1(a.at[j])); }
// Returns `a` in the first `count` lanes and `b` in the others.
template <int W> HERE Lanes<W> first(u32 count, Lanes<W> a, Lanes<W> b) { OF(Lanes<W>::of(j) < count ? a.at[j] : b.at[j]); }

// Returns the sum of all lanes to every thread of the team, added pairwise by halves as in `sum.rs`.
template <int W> HERE float total(Lanes<W> a) {
    UNROLL for (int width = W / 2; width > 0; width /= 2)
        UNROLL for (int j = 0; j < width; j++)
            a.at[j] = add1(a.at[j], a.at[j + width]);
    float sum = a.at[0];
    UNROLL for (int distance = LANES / W / 2; distance > 0; distance /= 2)
        sum = add1(sum, exchange<W>(sum, distance));
    return sum;
}

// Returns a bit mask of the lanes for which `is` holds.
template <int W> HERE u32 ballot(const bool (&is)[W]) {
    u32 mask = 0;
    if (W == LANES) {
        UNROLL EACH mask |= (u32)is[j] << j;
    } else { // Not reached by the tests.
        UNROLL EACH mask |= ballot1<W>(is[j]) << (j * (LANES / W));
    }
    return mask;
}

// Mixes 32 bits, as `mix32` in random.rs.
HERE u32 mix32(u32 x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

// Returns x to the power b, for x ≥ 0, as in `math.rs`, whose comments give the reasons.
template <int W> HERE Lanes<W> power(Lanes<W> x, float b) {
    x = most(x, 1.17549435e-38f);
    Lanes<W> e, t;
    UNROLL EACH {
        const int exponent = (int)((u32)bits(x.at[j]) - 0x3f3504f3u) >> 23;
        e.at[j] = whole(exponent);
        t.at[j] = number((int)((u32)bits(x.at[j]) - ((u32)exponent << 23)));
    }
    t = t - 1.0f;
    Lanes<W> p = fma(t, 0.2538435f, -0.3970374f);
    p = fma(p, t, 0.48700115f);
    p = fma(p, t, -0.7199234f);
    p = fma(p, t, 1.4425493f);
    p = fma(p, t, -9.265855e-6f);
    const float round = 12582912.0f;
    const Lanes<W> y = most(least((p + e) * b, 125.0f), -125.0f);
    const Lanes<W> rounded = y + round;
    const Lanes<W> f = y - (rounded - round);
    p = fma(f, 0.009570102f, 0.05591786f);
    p = fma(p, f, 0.24024744f);
    p = fma(p, f, 0.6931218f);
    p = fma(p, f, 0.9999993f);
    UNROLL EACH p.at[j] = number((int)((u32)bits(p.at[j]) + ((u32)bits(rounded.at[j]) << 23)));
    return p;
}
