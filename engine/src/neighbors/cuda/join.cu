// The kNN join on a GPU: compares each row with the segments that it visits and keeps the nearest, like `window.rs`
// but without a candidate filter. A distance is summed as in `squared_distance` of kernel.rs, to the same bits, and
// the smallest keys of `top_k.rs` are kept, which do not depend on the order of comparisons.
//
// A squad of MATES threads processes one row. The squad is divided into teams of TEAM threads; each team
// computes the distance to one row of a segment at a time. Candidates enter a heap in shared memory one
// after another.

#include "lanes.cuh"

// Same layout as `JoinArguments` in mod.rs.
struct Join {
    u32 first, count; // first query row, number of query rows
    u32 dim, keep;    // components; neighbours kept per row
    u32 ties;         // key of `tie_breaker.rs`
};

// Returns an integer that orders as (squared distance, rank) does.
HERE u64 key_of(float squared, u32 rank) { return (u64)((u32)bits(squared) | 0x80000000u) << 32 | rank; }

// Returns the squared distance between a row in shared memory and another row.
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

// Replaces the largest key by `key` if `key` is smaller: `TopK::offer`.
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

// `vectors`: of all rows. `starts`: the first row of each segment, then the number of rows. `ends`: for
// each query row the end of its entries in `visits`, which are segment numbers. `best`: in and out, for
// each query row a heap of keys (distance, rank by `TieBreaker::rank`).
template <int W>
HERE void meet(const float* vectors, const u32* starts, const u32* ends, const u32* visits, u64* best, const Join& of) {
    ASKED_FOR(room);
    enum { TEAM = LANES / W, TEAMS = MATES < TEAM ? 1 : MATES / TEAM };
    const u32 mate = thread() % MATES, squad = thread() / MATES, squads = threads() < MATES ? 1 : threads() / MATES;
    const u32 place = block() * squads + squad, row = of.first + place;
    // Whole squads return together.
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
            // Teams without a row compute a distance too, since all threads must take part in the
            // exchange of sums.
            const u32 other = mine < last ? mine : from;
            const u64 key = key_of(squared_distance<W>(own, vectors + (u64)other * of.dim, of.dim), mix32(other ^ salt));
            u32 near = squad_ballot(mate % TEAM == 0 && mine < last && other != row && key < heap[0]);
            while (near) {
                const u32 whose = lowest_bit(near);
                near &= near - 1;
                const u64 found = from_mate(key, whose);
                if (mate == 0) offer(heap, of.keep, found);
            }
            // No thread may read the heap while it changes.
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
