// Runs every layout kernel for AddressSanitizer. Each array has exactly the required length,
// so that any access outside of it is reported. With a command-line argument, one edge leads
// to a row that does not exist, which must be reported too.

#include <cstdio>
#include <cstring>
#include <vector>

#include "layout.cu"

typedef void (*Entry)(const u32*, float*, const Arguments*);

struct Named {
    const char* name;
    u32 width;
    bool whole;
    Entry entry;
};

#define WIDTHS_OF(method, whole) \
    {#method, 1, whole, method##_1}, {#method, 2, whole, method##_2}, {#method, 3, whole, method##_3}, \
        {#method, 4, whole, method##_4}, {#method, 8, whole, method##_8}, {#method, 16, whole, method##_16}, \
        {#method, 32, whole, method##_32}, {#method, 64, whole, method##_64}

static const Named ALL[] = {WIDTHS_OF(umap, false), WIDTHS_OF(largevis, false), WIDTHS_OF(infotsne, false),
                            WIDTHS_OF(pacmap, true), {"tsne", 2, false, tsne_2}};
enum { ROWS = 2100, PART = 1024, SIDE = 64 };

// Returns the edges of all rows in parts, as `pack` in shim.rs writes them. `wrong` is the place of
// a neighbour that does not exist, or 0.
static std::vector<u32> edges(bool whole, u32 wrong) {
    const u32 parts = (ROWS + PART - 1) / PART;
    std::vector<u32> out(parts);
    for (u32 part = 0; part < parts; part++) {
        out[part] = (u32)out.size();
        std::vector<u32> offsets(1, 0), neighbors;
        std::vector<u16> codes;
        for (u32 row = part * PART; row < ROWS && row < (part + 1) * PART; row++) {
            for (u32 e = 0; e < row * 7 % 41; e++) {
                neighbors.push_back((row + 1 + e * 13) % ROWS);
                codes.push_back(whole ? (u16)(1 + e % 8) : (u16)(mix32(row * 64 + e)));
            }
            offsets.push_back((u32)neighbors.size());
        }
        if (part == 1 && wrong) neighbors[wrong] = ROWS * 5, codes[wrong] = 65535;
        if (codes.size() % 2) codes.push_back(0);
        out.insert(out.end(), offsets.begin(), offsets.end());
        out.insert(out.end(), neighbors.begin(), neighbors.end());
        for (size_t i = 0; i < codes.size(); i += 2) out.push_back(codes[i] | (u32)codes[i + 1] << 16);
    }
    out.shrink_to_fit();
    return out;
}

int main(int count, char**) {
    for (const Named& named : ALL) {
        const std::vector<u32> words = edges(named.whole, count > 1 ? 77 : 0);
        std::vector<float> state((size_t)4 * ROWS * named.width);
        for (size_t i = 0; i < (size_t)ROWS * named.width; i++) state[i] = (float)(mix32((u32)i) >> 16) * 3e-4f - 10.0f;
        // Positions and nodes are within 10 of the origin; some rows reach the last nodes.
        if (!std::strcmp(named.name, "tsne")) state.resize(state.size() + 2 * SIDE * SIDE, 0.25f);
        state.shrink_to_fit();
        Arguments of = {};
        of.rows = of.count = ROWS, of.span = PART;
        of.negatives = 5, of.a = 1.577f, of.b = 0.895f, of.rate = 0.5f, of.beta1 = 0.5f, of.beta2 = 0.9f;
        of.exaggeration = 1.0f, of.unit = 1e-5f, of.near = 2.0f, of.middle = 3.0f;
        of.side = SIDE, of.step = 20.0 / 60, of.origin_x = of.origin_y = -32.0, of.factor = 0.5f;
        for (of.number = 1; of.number <= 3; of.number++) {
            of.parity = (of.number - 1) % 2, of.optimizer = ADAM + of.number - 1, of.restart = of.number == 1;
            of.draws = of.number * 7919, of.pools = of.number * 104729;
            of.correct1 = of.correct2 = 1.0f;
            named.entry(words.data(), state.data(), &of);
        }
        float sum = 0.0f;
        for (float x : state) sum += x;
        if (!(sum - sum == 0.0f)) return std::printf("%s_%u runs away\n", named.name, named.width), 3;
    }
    return 0;
}
