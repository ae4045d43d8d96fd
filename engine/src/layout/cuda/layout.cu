// Computes one epoch for the rows of some blocks of edges on a GPU: the arithmetic of `umap.rs` and
// `weighted.rs`, in the same order and with the same bits. The reasons are explained there; the comments
// here only explain how the work is divided on the device.
//
// A block of threads computes the rows that share a pool (`pool.rs`), which is kept in shared memory. A
// team of threads (`lanes.cuh`) computes one row after another. Rows are read from the epoch's snapshot,
// and each row is written only by its team.
//
// State, in floats: the positions of all rows twice, where `parity` selects the half that is the
// snapshot; then the two moments of each row; then, if the method has a field, x and y of the force on
// each node. Edges, in words: the table of where each part begins, then the parts, each of `span` rows
// except the last: offsets (rows + 1), neighbours, codes (two in a word). Rows that share a pool are in
// one part.

#include "lanes.cuh"

// Must match `Arguments` in mod.rs.
struct Arguments {
    u64 draws, pools;               // keys of the epoch's random draws: for rows, for pools
    double step, origin_x, origin_y; // node (i, j) of the field is at (origin + (i, j)) · step
    u32 number, rows, parity;       // the epoch, number of rows, the snapshot's half
    u32 first, count, span;         // the rows of these edges, and rows of a part
    u32 negatives, restart, optimizer; // negative samples; whether moments restart; ADAM, …
    float a, b;                     // UMAP's curve
    float rate, beta1, beta2, correct1, correct2; // learning rate; Adam's decays and corrections
    float exaggeration, unit;       // factor of attraction; √weight of code 1
    float near, middle;             // PaCMAP's weights of near and mid-near pairs
    float factor;                   // factor of the field's forces
    u32 side;                       // nodes on a side of the field
};

// The optimizers.
enum { ADAM, MOMENTUM, GAINS };
// Number of rows that share a pool; also the number of rows of a block of threads.
enum { SHARING = 1024 };
// Largest number of threads of a block.
enum { MOST_THREADS = 512 };

HERE u64 mix64(u64 x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}
HERE u64 draw(u64 key, u64 counter) { return mix64(key + counter * 0x9e3779b97f4a7c15ull); }

// Sixteen positions.
template <int W, int DIM> struct Points {
    Lanes<W> of[DIM];
};

// Reads one row's position.
template <int DIM> HERE void fetch(const float* snapshot, u32 row, float (&out)[DIM]) {
    const float* at = snapshot + (u64)row * DIM;
    if (DIM == 2) {
        const float2 two = read((const float2*)at);
        out[0] = two.x;
        out[DIM - 1] = two.y;
    } else if (DIM % 4 == 0) {
        COMPONENTS for (int d = 0; d + 3 < DIM; d += 4) {
            const float4 four = read((const float4*)(at + d));
            out[d] = four.x, out[d + 1] = four.y, out[d + 2] = four.z, out[d + 3] = four.w;
        }
    } else {
        COMPONENTS for (int d = 0; d < DIM; d++) out[d] = read(at + d);
    }
}

template <int W, int DIM> HERE Points<W, DIM> gather(const float* snapshot, const u32 (&rows)[W]) {
    Points<W, DIM> points;
    UNROLL EACH {
        float point[DIM];
        fetch<DIM>(snapshot, rows[j], point);
        COMPONENTS for (int d = 0; d < DIM; d++) points.of[d].at[j] = point[d];
    }
    return points;
}

// The random rows of a pool. The positions of maps above 16 components do not fit in shared memory; such rows
// are drawn and read again wherever they are used.
template <int W, int DIM> struct Pool {
    enum { SIZE = DIM <= 4 ? 2048 : 512, STRIDE = SIZE + LANES, KEPT = DIM <= 16 };
    float* numbers;
    const float* snapshot;
    u32 key, stride, rows;

    HERE u32 drawn(u32 place) const { return high(mix32(key + place * stride), rows); }

    // Draws the pool; called by all threads of the block.
    HERE void fill(const Arguments& of, u32 group, const float* from, float* room) {
        const u64 stream = draw(of.pools, group);
        key = (u32)stream, stride = (u32)(stream >> 32) | 1;
        numbers = room, snapshot = from, rows = of.rows;
        if (KEPT) {
            for (u32 place = thread(); place < STRIDE; place += threads()) {
                float point[DIM];
                fetch<DIM>(from, drawn(place % SIZE), point);
                COMPONENTS for (int d = 0; d < DIM; d++) room[d * STRIDE + place] = point[d];
            }
            wait_for_block();
        }
    }

    // Reads the position in place `at`; places are taken modulo `SIZE`.
    HERE void row(u32 at, float (&out)[DIM]) const {
        at %= SIZE;
        if (KEPT) {
            COMPONENTS for (int d = 0; d < DIM; d++) out[d] = numbers[d * STRIDE + at];
        } else {
            fetch<DIM>(snapshot, drawn(at), out);
        }
    }

    // Returns sixteen positions from place `at` on.
    HERE Points<W, DIM> load(u32 at) const {
        Points<W, DIM> points;
        at %= SIZE;
        if (KEPT) {
            COMPONENTS for (int d = 0; d < DIM; d++)
                UNROLL EACH points.of[d].at[j] = numbers[d * STRIDE + at + Lanes<W>::of(j)];
        } else {
            u32 rows[W];
            UNROLL EACH rows[j] = drawn((at + Lanes<W>::of(j)) % SIZE);
            points = gather<W, DIM>(snapshot, rows);
        }
        return points;
    }
};

template <int W, int DIM> HERE Points<W, DIM> away(const Points<W, DIM>& others, const float (&own)[DIM]) {
    Points<W, DIM> out;
    COMPONENTS for (int d = 0; d < DIM; d++) out.of[d] = own[d] - others.of[d];
    return out;
}

template <int W, int DIM> HERE Lanes<W> squared(const Points<W, DIM>& away) {
    Lanes<W> squares = splat<W>(0.0f);
    COMPONENTS for (int d = 0; d < DIM; d++) squares = fma(away.of[d], away.of[d], squares);
    return squares;
}

// Returns 1, or 0 where the other row has the same position: a row that draws itself, or a copy of itself, adds
// no mass.
template <int W> HERE Lanes<W> apart(Lanes<W> squares) { return least(squares * 1e30f, 1.0f); }

// For methods in which the factor of the repulsion depends on the row that draws: the factor of each pool row
// where that row is the one that draws.
template <typename Loss, int W, int DIM> struct Shares {
    enum { WEIGHED_BY = 64 };
    float* shares;

    // Computes the factors from each row's mass with regard to the rows after it; called by all threads of the block.
    HERE void weigh(const Pool<W, DIM>& pool, u32 drawn, float* room) {
        shares = room;
        const float times = div1((float)drawn, (float)WEIGHED_BY);
        for (u32 from = thread() / (LANES / W) * LANES; from < Pool<W, DIM>::SIZE; from += threads() / (LANES / W) * LANES) {
            const Points<W, DIM> rows = pool.load(from);
            Lanes<W> masses = splat<W>(0.0f);
            for (u32 other = 0; other < WEIGHED_BY; other++) {
                float point[DIM];
                pool.row(from + LANES + other, point);
                const Lanes<W> squares = squared(away(rows, point));
                masses = fma(apart(squares), Loss::mass(squares), masses);
            }
            masses = masses * times;
            UNROLL EACH {
                const u32 lane = Lanes<W>::of(j);
                shares[from + lane] = Loss::share(masses.at[j]);
                if (from == 0) shares[Pool<W, DIM>::SIZE + lane] = Loss::share(masses.at[j]);
            }
        }
        wait_for_block();
    }

    HERE Lanes<W> load(u32 at) const {
        Lanes<W> out;
        UNROLL EACH out.at[j] = shares[at % Pool<W, DIM>::SIZE + Lanes<W>::of(j)];
        return out;
    }
};

// The rows of a block of threads, and the places of their edges and state.
template <int DIM> struct Places {
    u32 group, begin, end, base; // the pool; the rows; the first row of the part
    const u32 *offsets, *neighbors;
    const u16* codes;
    const float* snapshot;
    float *positions, *moments;

    HERE Places(const Arguments& of, const u32* edges, float* state) {
        group = of.first / SHARING + block();
        const u32 last = of.first + of.count;
        begin = group * SHARING > of.first ? group * SHARING : of.first;
        end = last - group * SHARING > SHARING ? (group + 1) * SHARING : last;
        const u32 part = (begin - of.first) / of.span;
        base = of.first + part * of.span;
        const u32 rows = last - base < of.span ? last - base : of.span;
        offsets = edges + read(edges + part), neighbors = offsets + rows + 1;
        codes = (const u16*)(neighbors + read(offsets + rows));
        const u64 half = (u64)of.rows * DIM;
        snapshot = state + (of.parity ? half : 0);
        positions = state + (of.parity ? 0 : half);
        moments = state + 2 * half;
    }
};

// Adam's step; each thread of a team moves every `TEAM`-th component.
template <int W, int DIM>
HERE void adam(const Arguments& of, const Places<DIM>& places, u32 row, const float (&own)[DIM], const float (&force)[DIM]) {
    enum { TEAM = LANES / W };
    for (u32 d = Lanes<W>::of(0); d < DIM; d += TEAM) {
        float gradient = 0.0f, from = 0.0f;
        if constexpr (DIM > TEAM) gradient = force[d], from = own[d];
        else { // Reads all components, so that the arrays can stay in registers.
            COMPONENTS for (int c = 0; c < DIM; c++) {
                const float f = force[c], o = own[c];
                gradient = d == (u32)c ? f : gradient, from = d == (u32)c ? o : from;
            }
        }
        float* moments = places.moments + (u64)row * 2 * DIM + d;
        const float before1 = of.restart ? 0.0f : moments[0], before2 = of.restart ? 0.0f : moments[DIM];
        const float first = fma1(of.beta1, before1, mul1(sub1(1.0f, of.beta1), gradient));
        const float second = fma1(of.beta2, before2, mul1(mul1(sub1(1.0f, of.beta2), gradient), gradient));
        moments[0] = first;
        moments[DIM] = second;
        const float below = add1(sqrt1(mul1(second, of.correct2)), 1e-8f);
        const float step = div1(mul1(of.rate, mul1(first, of.correct1)), below);
        places.positions[(u64)row * DIM + d] = add1(from, step);
    }
}

// Copies the position of a row that does not move.
template <int W, int DIM> HERE void stay(const Places<DIM>& places, u32 row) {
    for (u32 d = Lanes<W>::of(0); d < DIM; d += LANES / W)
        places.positions[(u64)row * DIM + d] = read(places.snapshot + (u64)row * DIM + d);
}

// --- UMAP: umap.rs

template <int W, int DIM>
HERE void add(Points<W, DIM>& sums, const Points<W, DIM>& away, float a, float b, Lanes<W> pull, Lanes<W> push, Lanes<W> near) {
    const Lanes<W> squares = squared(away);
    const Lanes<W> powers = power(squares, b);
    const Lanes<W> below = (near + squares) * fma(powers, a, 1.0f);
    const Lanes<W> coefficient = fma(pull, powers, push) / below;
    COMPONENTS for (int d = 0; d < DIM; d++)
        sums.of[d] = sums.of[d] + most(least(coefficient * away.of[d], 4.0f), -4.0f);
}

template <int W, int DIM> HERE void umap(const u32* edges, float* state, const Arguments& of) {
    const Places<DIM> places(of, edges, state);
    SHARED float room[Pool<W, DIM>::KEPT ? DIM * Pool<W, DIM>::STRIDE : 1];
    // Neighbours of edges that fire, collected until there are sixteen.
    SHARED u32 waiting[MOST_THREADS * W / LANES][2 * LANES];
    u32* const wait = waiting[thread() / (LANES / W)];

    Pool<W, DIM> pool;
    pool.fill(of, places.group, places.snapshot, room);
    const Lanes<W> none = splat<W>(0.0f), meeting = splat<W>(1e-12f), near = splat<W>(0.001f);
    const Lanes<W> pull = splat<W>(mul1(mul1(-2.0f, of.a), of.b));
    const float twice_b = mul1(2.0f, of.b);

    for (u32 row = places.begin + thread() / (LANES / W); row < places.end; row += threads() / (LANES / W)) {
        const u32 from = read(places.offsets + (row - places.base)), to = read(places.offsets + (row - places.base) + 1);
        float own[DIM];
        fetch<DIM>(places.snapshot, row, own);
        Points<W, DIM> sums;
        COMPONENTS for (int d = 0; d < DIM; d++) sums.of[d] = none;
        u32 fired = 0, held = 0;
        for (u32 at = from; at < to; at += LANES) {
            bool fires[W];
            UNROLL EACH {
                const u32 place = at + Lanes<W>::of(j);
                fires[j] = false;
                if (place < to) {
                    const u16 code = read(places.codes + place);
                    fires[j] = (u16)(((u32)code + 1) * of.number) <= code;
                }
            }
            const u32 mask = ballot(fires);
            UNROLL EACH if (fires[j]) {
                const u32 lane = Lanes<W>::of(j);
                wait[held + count_ones(mask & ((1u << lane) - 1))] = read(places.neighbors + at + lane);
            }
            held += count_ones(mask);
            wait_for_team<W>();
            if (held >= LANES) {
                u32 targets[W], rest[W];
                UNROLL EACH targets[j] = wait[Lanes<W>::of(j)], rest[j] = wait[LANES + Lanes<W>::of(j)];
                wait_for_team<W>();
                held -= LANES;
                fired += LANES;
                // Moves up only the neighbours that are left: the places behind them are being written.
                UNROLL EACH if (Lanes<W>::of(j) < held) wait[Lanes<W>::of(j)] = rest[j];
                add(sums, away(gather<W, DIM>(places.snapshot, targets), own), of.a, of.b, pull, none, meeting);
            }
        }
        fired += held;
        if (fired == 0) {
            stay<W, DIM>(places, row);
            continue;
        }

        const u32 asked = fired * of.negatives;
        const u32 beside = held ? LANES - held : 0;
        const u32 least_groups = beside == 0 ? 1 : 0, most_groups = Pool<W, DIM>::SIZE / LANES;
        u32 groups = ((asked > beside ? asked - beside : 0) + LANES / 2) / LANES;
        groups = groups < least_groups ? least_groups : groups > most_groups ? most_groups : groups;
        const float share = div1((float)asked, (float)(beside + groups * LANES));
        const Lanes<W> push = splat<W>(mul1(twice_b, share));
        u32 at = (u32)draw(of.draws, row);
        if (held) {
            u32 targets[W];
            UNROLL EACH targets[j] = Lanes<W>::of(j) < held ? wait[Lanes<W>::of(j)] : row;
            const Points<W, DIM> pulling = gather<W, DIM>(places.snapshot, targets), pushing = pool.load(at);
            Points<W, DIM> both;
            COMPONENTS for (int d = 0; d < DIM; d++) both.of[d] = first(held, pulling.of[d], pushing.of[d]);
            add(sums, away(both, own), of.a, of.b, first(held, pull, none), first(held, none, push),
                first(held, meeting, near));
            at += LANES;
        }
        for (u32 i = 0; i < groups; i++) {
            add(sums, away(pool.load(at), own), of.a, of.b, none, push, near);
            at += LANES;
        }
        // All threads must have read the neighbours before those of the next row are written.
        wait_for_team<W>();
        float force[DIM];
        COMPONENTS for (int d = 0; d < DIM; d++) force[d] = total(sums.of[d]);
        adam<W, DIM>(of, places, row, own, force);
    }
}

// --- Methods that weigh every edge: weighted.rs and the methods' files in `method`.

struct Tsne {
    enum { WHOLE = 0, MASSES = 0, FIELD = 1 };
    template <int W> static HERE Lanes<W> pull(const Arguments&, Lanes<W> weight, Lanes<W> squares) {
        return (weight * 4.0f) / (squares + 1.0f);
    }
};

struct LargeVis {
    enum { WHOLE = 0, MASSES = 0, FIELD = 0 };
    template <int W> static HERE Lanes<W> pull(const Arguments&, Lanes<W> weight, Lanes<W> squares) {
        return (weight * 4.0f) / (squares + 2.0f);
    }
    template <int W> static HERE Lanes<W> push(Lanes<W> squares) {
        return 4.0f / ((squares + 1.0f) * (squares + 2.0f));
    }
};

struct Pacmap {
    enum { WHOLE = 1, MASSES = 0, FIELD = 0 };
    template <int W> static HERE Lanes<W> pull(const Arguments& of, Lanes<W> weight, Lanes<W> squares) {
        const float round = 12582912.0f, times = 4.0f;
        const Lanes<W> count = fma(weight, 1.0f / times, 0.5f / times - 0.5f) + round - round;
        const Lanes<W> rest = fma(count, -times, weight);
        const Lanes<W> near = squares + 11.0f, middle = squares + 10001.0f;
        const Lanes<W> pull = (rest * mul1(20.0f, of.near)) / (near * near);
        return (count * mul1(20000.0f, of.middle)) / (middle * middle) + pull;
    }
    template <int W> static HERE Lanes<W> push(Lanes<W> squares) {
        const Lanes<W> below = squares + 2.0f;
        return 4.0f / (below * below);
    }
};

struct InfoTsne {
    enum { WHOLE = 0, MASSES = 1, FIELD = 0 };
    template <int W> static HERE Lanes<W> pull(const Arguments&, Lanes<W> weight, Lanes<W> squares) {
        return (weight * 4.0f) / (squares + 1.0f);
    }
    template <int W> static HERE Lanes<W> mass(Lanes<W> squares) { return 1.0f / (squares + 1.0f); }
    template <int W> static HERE Lanes<W> push(Lanes<W> squares) {
        const Lanes<W> q = mass(squares);
        return (q * 4.0f) * q;
    }
    static HERE float share(float mass) { return div1(1.0f, max1(mass, 0x1p-63f)); }
};

// The field's force on a row: `nodes` and `at` of field.rs.
HERE u32 nodes(const Arguments& of, float x, double origin, float (&weights)[4]) {
    const double place = sub2(div2((double)x, of.step), origin), before = floor(place);
    const float t = rounded(sub2(place, before));
    const float a = add1(t, 1.0f), b = sub1(t, 1.0f), c = sub1(t, 2.0f);
    weights[0] = div1(mul1(mul1(-t, b), c), 6.0f);
    weights[1] = div1(mul1(mul1(a, b), c), 2.0f);
    weights[2] = div1(mul1(mul1(-a, t), c), 2.0f);
    weights[3] = div1(mul1(mul1(a, t), b), 6.0f);
    // A coordinate beyond the grid, or NaN, falls on its edge.
    const double first = before >= 1.0 ? before - 1.0 : 0.0, last = (double)(of.side - 4);
    return (u32)(first < last ? first : last);
}

HERE void field(const Arguments& of, const float* forces, float x, float y, float (&out)[2]) {
    float along_x[4], along_y[4];
    const u32 i = nodes(of, x, of.origin_x, along_x), j = nodes(of, y, of.origin_y, along_y);
    out[0] = out[1] = 0.0f;
    UNROLL for (u32 line = 0; line < 4; line++) {
        const float2* node = (const float2*)forces + (u64)(j + line) * of.side + i;
        float sum_x = 0.0f, sum_y = 0.0f;
        UNROLL for (u32 k = 0; k < 4; k++) {
            const float2 force = read(node + k);
            sum_x = fma1(along_x[k], force.x, sum_x);
            sum_y = fma1(along_x[k], force.y, sum_y);
        }
        out[0] = fma1(along_y[line], sum_x, out[0]);
        out[1] = fma1(along_y[line], sum_y, out[1]);
    }
    out[0] = mul1(of.factor, out[0]);
    out[1] = mul1(of.factor, out[1]);
}

// Momentum with or without gains (`optimizer.rs`). The step's length depends on all components, so that every
// thread computes all of them.
template <int W, int DIM>
HERE void momentum(const Arguments& of, const Places<DIM>& places, u32 row, const float (&own)[DIM], const float (&force)[DIM]) {
    float* moments = places.moments + (u64)row * 2 * DIM;
    float velocity[DIM], gain[DIM], square = 0.0f;
    COMPONENTS for (int d = 0; d < DIM; d++) {
        const float before = of.restart ? 0.0f : moments[d], gains = of.restart ? 1.0f : moments[DIM + d];
        gain[d] = gains;
        if (of.optimizer == GAINS) gain[d] = mul1(before, force[d]) < 0.0f ? fma1(0.8f, gains, 0.01f) : add1(gains, 0.2f);
        velocity[d] = fma1(0.8f, before, mul1(mul1(of.rate, gain[d]), force[d]));
        square = fma1(velocity[d], velocity[d], square);
    }
    const float length = sqrt1(square), share = length > 5.0f ? div1(5.0f, length) : 1.0f;
    // All threads must have read the moments before one writes.
    wait_for_team<W>();
    COMPONENTS for (int d = 0; d < DIM; d++)
        if (d % (LANES / W) == Lanes<W>::of(0)) {
            const float step = mul1(velocity[d], share);
            moments[d] = step;
            moments[DIM + d] = gain[d];
            places.positions[(u64)row * DIM + d] = add1(own[d], step);
        }
}

template <typename Loss, int W, int DIM> HERE void weighed(const u32* edges, float* state, const Arguments& of) {
    const Places<DIM> places(of, edges, state);
    SHARED float room[Pool<W, DIM>::KEPT && !Loss::FIELD ? DIM * Pool<W, DIM>::STRIDE : 1];

    Pool<W, DIM> pool;
    if constexpr (!Loss::FIELD) pool.fill(of, places.group, places.snapshot, room);
    u32 groups = (of.negatives + LANES - 1) / LANES;
    groups = groups < 1 ? 1 : groups > Pool<W, DIM>::SIZE / LANES ? Pool<W, DIM>::SIZE / LANES : groups;
    Shares<Loss, W, DIM> shares;
    if constexpr (Loss::MASSES) {
        SHARED float shared[Pool<W, DIM>::STRIDE];
        shares.weigh(pool, groups * LANES, shared);
    }

    for (u32 row = places.begin + thread() / (LANES / W); row < places.end; row += threads() / (LANES / W)) {
        const u32 from = read(places.offsets + (row - places.base)), to = read(places.offsets + (row - places.base) + 1);
        if (from == to) {
            stay<W, DIM>(places, row);
            continue;
        }
        float own[DIM];
        fetch<DIM>(places.snapshot, row, own);
        Points<W, DIM> pulls, pushes;
        COMPONENTS for (int d = 0; d < DIM; d++) pulls.of[d] = pushes.of[d] = splat<W>(0.0f);
        for (u32 at = from; at < to; at += LANES) {
            u32 targets[W];
            Lanes<W> code;
            UNROLL EACH {
                const u32 place = at + Lanes<W>::of(j);
                targets[j] = row;
                code.at[j] = 0.0f;
                if (place < to) targets[j] = read(places.neighbors + place), code.at[j] = (float)read(places.codes + place);
            }
            const Lanes<W> root = code * of.unit, weight = Loss::WHOLE ? code : root * root;
            const Points<W, DIM> far = away(gather<W, DIM>(places.snapshot, targets), own);
            const Lanes<W> pull = Loss::pull(of, weight, squared(far));
            COMPONENTS for (int d = 0; d < DIM; d++) pulls.of[d] = fma(pull, far.of[d], pulls.of[d]);
        }
        u32 at = (u32)draw(of.draws, row);
        float force[DIM];
        if constexpr (Loss::FIELD) {
            float push[2];
            field(of, state + 4 * (u64)of.rows * DIM, own[0], own[1], push);
            COMPONENTS for (int d = 0; d < DIM; d++) force[d] = fma1(-of.exaggeration, total(pulls.of[d]), push[d]);
        } else if constexpr (Loss::MASSES) {
            // Half of the sum stands for the row's own draws, the other half for the rows that draw this row.
            Points<W, DIM> theirs;
            COMPONENTS for (int d = 0; d < DIM; d++) theirs.of[d] = splat<W>(0.0f);
            Lanes<W> masses = splat<W>(0.0f);
            for (u32 i = 0; i < groups; i++) {
                const Points<W, DIM> far = away(pool.load(at), own);
                const Lanes<W> squares = squared(far), push = Loss::push(squares), back = push * shares.load(at);
                at += LANES;
                COMPONENTS for (int d = 0; d < DIM; d++) {
                    pushes.of[d] = fma(push, far.of[d], pushes.of[d]);
                    theirs.of[d] = fma(back, far.of[d], theirs.of[d]);
                }
                masses = fma(apart(squares), Loss::mass(squares), masses);
            }
            const float share = Loss::share(total(masses));
            COMPONENTS for (int d = 0; d < DIM; d++) {
                const float push = mul1(0.5f, fma1(share, total(pushes.of[d]), total(theirs.of[d])));
                force[d] = fma1(-of.exaggeration, total(pulls.of[d]), push);
            }
        } else {
            for (u32 i = 0; i < groups; i++) {
                const Points<W, DIM> far = away(pool.load(at), own);
                at += LANES;
                const Lanes<W> push = Loss::push(squared(far));
                COMPONENTS for (int d = 0; d < DIM; d++) pushes.of[d] = fma(push, far.of[d], pushes.of[d]);
            }
            const float share = div1((float)of.negatives, (float)(groups * LANES));
            COMPONENTS for (int d = 0; d < DIM; d++)
                force[d] = fma1(-of.exaggeration, total(pulls.of[d]), mul1(share, total(pushes.of[d])));
        }
        if (of.optimizer == ADAM) adam<W, DIM>(of, places, row, own, force);
        else momentum<W, DIM>(of, places, row, own, force);
    }
}

// --- The kernels: <method>_<components>; for the tests on a CPU, functions of the same names that loop over the grid.

#ifdef __CUDACC__
#ifndef BOUNDS
#define BOUNDS MOST_THREADS
#endif
#define ENTRY(name, body, W, DIM) \
    extern "C" __global__ void __launch_bounds__(BOUNDS) \
        name##_##DIM(const u32* __restrict__ edges, float* __restrict__ state, const Arguments of) { \
        body<W, DIM>(edges, state, of); \
    }
#else
#define ENTRY(name, body, W, DIM) \
    extern "C" void name##_##DIM(const u32* edges, float* state, const Arguments* of) { \
        const u32 last = of->first + of->count; \
        for (block_now = 0; (of->first / SHARING + block_now) * SHARING < last; block_now++) \
            body<W, DIM>(edges, state, *of); \
    }
#endif

template <int W, int DIM> HERE void tsne(const u32* edges, float* state, const Arguments& of) { weighed<Tsne, W, DIM>(edges, state, of); }
template <int W, int DIM> HERE void largevis(const u32* edges, float* state, const Arguments& of) { weighed<LargeVis, W, DIM>(edges, state, of); }
template <int W, int DIM> HERE void infotsne(const u32* edges, float* state, const Arguments& of) { weighed<InfoTsne, W, DIM>(edges, state, of); }
template <int W, int DIM> HERE void pacmap(const u32* edges, float* state, const Arguments& of) { weighed<Pacmap, W, DIM>(edges, state, of); }

// Number of lanes of a thread, chosen by measurement (benches/record).
#ifndef LANES_OF_THREAD
#ifdef __CUDACC__
#define LANES_OF_THREAD 4
#else
#define LANES_OF_THREAD 16
#endif
#endif
#define WIDTHS(name) \
    ENTRY(name, name, LANES_OF_THREAD, 1) \
    ENTRY(name, name, LANES_OF_THREAD, 2) \
    ENTRY(name, name, LANES_OF_THREAD, 3) \
    ENTRY(name, name, LANES_OF_THREAD, 4) \
    ENTRY(name, name, LANES_OF_THREAD, 8) \
    ENTRY(name, name, LANES_OF_THREAD, 16) \
    ENTRY(name, name, LANES_OF_THREAD, 32) \
    ENTRY(name, name, LANES_OF_THREAD, 64)
#ifdef ONLY
ENTRY(umap, umap, LANES_OF_THREAD, 2)
#else
WIDTHS(umap)
WIDTHS(largevis)
WIDTHS(infotsne)
WIDTHS(pacmap)
ENTRY(tsne, tsne, LANES_OF_THREAD, 2)
#endif
