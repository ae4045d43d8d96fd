// Brings some rows before the segments that each of them visits, and keeps the nearest,
// on a GPU: what `window.rs` does, without a sieve. A distance is summed as
// `squared_distance` in kernel.rs sums it, to the same bits, and what is kept are the
// least keys of `top.rs`: the same, in whatever order they came.
//
// A squad of threads takes a row. Its teams take the rows of a segment, one each, and
// what may be kept goes to a heap in shared memory one after another.

#include "lanes.cuh"

// As `Arguments` in mod.rs.
struct Join {
    u32 first, count; // the rows that look
    u32 dim, keep;    // components; how many each row keeps
    u32 ties;         // the key of `ties.rs`
};

// A number that orders as (squared distance, rank) does.
HERE u64 key_of(float squared, u32 rank) { return (u64)((u32)bits(squared) | 0x80000000u) << 32 | rank; }

// The squared distance of the row that lies in shared memory to another.
template <int W> HERE float squared_distance(const float* own, const float* other, u32 dim) {
    Lanes<W> sums = splat<W>(0.0f);
    u32 from = 0;
    for (; from + LANES <= dim; from += LANES)
        UNROLL EACH {
            const u32 d = from + Lanes<W>::of(j);
            const float away = sub1(own[d], read(other + d));
            sums.at[j] = fma1(away, away, sums.at[j]);
        }
    UNROLL EACH {
        const u32 d = from + Lanes<W>::of(j);
        if (d < dim) {
            const float away = sub1(own[d], read(other + d));
            sums.at[j] = fma1(away, away, sums.at[j]);
        }
    }
    return total(sums);
}

// Puts a key in the place of the largest, which goes, if it is less: `Tops::offer`.
HERE void offer(u64* heap, u32 keep, u64 key) {
    if (key >= heap[0]) return;
    u32 at = 0;
    for (;;) {
        const u32 left = 2 * at + 1, right = left + 1;
        const u32 larger = right < keep && heap[right] > heap[left] ? right : left;
        if (larger >= keep || heap[larger] <= key) break;
        heap[at] = heap[larger];
        at = larger;
    }
    heap[at] = key;
}

// `vectors`: of all rows. `starts`: the first row of each segment, and the number of rows
// last. `ends`: where the visits of each row that looks end; `visits`: segments. `best`: what
// each of them knows, heaps of keys of (distance, rank by `Ties::rank`), and what it knows
// afterwards.
template <int W>
HERE void meet(const float* vectors, const u32* starts, const u32* ends, const u32* visits, u64* best, const Join& of) {
    ASKED_FOR(room);
    enum { TEAM = LANES / W, TEAMS = MATES < TEAM ? 1 : MATES / TEAM };
    const u32 mate = thread() % MATES, squad = thread() / MATES, squads = threads() < MATES ? 1 : threads() / MATES;
    const u32 place = block() * squads + squad, row = of.first + place;
    // Whole squads leave.
    if (place >= of.count) return;
    u64* const heap = room + (u64)squad * (of.keep + (of.dim + 1) / 2);
    float* const own = (float*)(heap + of.keep);
    for (u32 i = mate; i < of.keep; i += MATES) heap[i] = best[(u64)place * of.keep + i];
    for (u32 d = mate; d < of.dim; d += MATES) own[d] = read(vectors + (u64)row * of.dim + d);
    wait_for_squad();

    const u32 salt = mix32(row ^ of.ties), to = read(ends + place);
    for (u32 visit = place ? read(ends + place - 1) : 0; visit < to; visit++) {
        const u32 segment = read(visits + visit), last = read(starts + segment + 1);
        for (u32 from = read(starts + segment); from < last; from += TEAMS) {
            const u32 mine = from + mate / TEAM;
            // All have a row to look at, so that all are there when sums are exchanged.
            const u32 other = mine < last ? mine : from;
            const u64 key = key_of(squared_distance<W>(own, vectors + (u64)other * of.dim, of.dim), mix32(other ^ salt));
            u32 near = squad_ballot(mate % TEAM == 0 && mine < last && other != row && key < heap[0]);
            while (near) {
                const u32 whose = lowest_bit(near);
                near &= near - 1;
                const u64 found = from_mate(key, whose);
                if (mate == 0) offer(heap, of.keep, found);
            }
            // Nobody looks at the heap while it is being changed.
            wait_for_squad();
        }
    }
    for (u32 i = mate; i < of.keep; i += MATES) best[(u64)place * of.keep + i] = heap[i];
}

#ifdef __CUDACC__
extern "C" __global__ void __launch_bounds__(256)
    join(const float* __restrict__ vectors, const u32* __restrict__ starts, const u32* __restrict__ ends,
         const u32* __restrict__ visits, u64* __restrict__ best, const Join of) {
    meet<4>(vectors, starts, ends, visits, best, of);
}
#else
extern "C" void join(const float* vectors, const u32* starts, const u32* ends, const u32* visits, u64* best, const Join* of) {
    for (block_now = 0; block_now < of->count; block_now++) meet<16>(vectors, starts, ends, visits, best, *of);
}
#endif
