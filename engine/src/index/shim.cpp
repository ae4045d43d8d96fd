// C functions for the few calls that lowland makes into FAISS.
//
// Invariants: no exception leaves a function, since the caller is Rust. Every function returns 0, or 1
// with a message in `why`. No function starts more than one thread, because the callers are rayon workers
// and because the sums of k-means would depend on the number of threads. (They still depend on the
// machine's BLAS: another type of processor may find other centroids.)

#include <omp.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <faiss/Clustering.h>
#include <faiss/IndexFlat.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/index_io.h>
#include <faiss/invlists/OnDiskInvertedLists.h>
#include <faiss/utils/utils.h>

extern "C" void openblas_set_num_threads(int) __attribute__((weak));

namespace {

constexpr size_t WHY = 512;

template <typename F>
int guarded(char* why, F&& body) {
    try {
        omp_set_num_threads(1);
        body();
        return 0;
    } catch (const std::exception& e) {
        std::snprintf(why, WHY, "%s", e.what());
    } catch (...) {
        std::snprintf(why, WHY, "unknown C++ exception");
    }
    return 1;
}

} // namespace

extern "C" {

// Writes FAISS's compile options ("AVX2 ", "GENERIC ", …) to `out` and turns off OpenBLAS's own threads
// for the process.
int lowland_faiss_start(char* out, size_t room, char* why) {
    return guarded(why, [&] {
        if (openblas_set_num_threads != nullptr) {
            openblas_set_num_threads(1);
        }
        std::snprintf(out, room, "%s", faiss::get_compile_options().c_str());
    });
}

// Runs k-means (Lloyd) on `n` rows of `d` floats; writes `k` centroids (k × d floats).
int lowland_kmeans(
        size_t d,
        size_t n,
        size_t k,
        int iterations,
        int seed,
        const float* rows,
        float* centroids,
        char* why) {
    return guarded(why, [&] {
        faiss::ClusteringParameters p;
        p.niter = iterations;
        p.seed = seed;
        p.min_points_per_centroid = 1;
        p.max_points_per_centroid = 1 << 30;
        faiss::Clustering clustering(int(d), int(k), p);
        faiss::IndexFlatL2 assign{faiss::idx_t(d)};
        clustering.train(faiss::idx_t(n), rows, assign);
        std::memcpy(centroids, clustering.centroids.data(), sizeof(float) * d * k);
    });
}

// Writes an IVFFlat index file at `path` that refers to existing inverted lists in `lists_path`: list
// after list sizes[l] × d floats, then sizes[l] ids.
int lowland_write_ivf(
        const char* path,
        const char* lists_path,
        size_t d,
        size_t nlist,
        const float* centroids,
        const size_t* sizes,
        size_t nprobe,
        char* why) {
    return guarded(why, [&] {
        faiss::IndexFlatL2 quantizer{faiss::idx_t(d)};
        quantizer.add(faiss::idx_t(nlist), centroids);
        faiss::IndexIVFFlat index(&quantizer, d, nlist, faiss::METRIC_L2);
        auto lists = std::make_unique<faiss::OnDiskInvertedLists>();
        lists->nlist = nlist;
        lists->code_size = index.code_size;
        lists->lists.resize(nlist);
        lists->set_all_lists_sizes(sizes);
        lists->filename = lists_path;
        lists->totsize = 0;
        for (size_t l = 0; l < nlist; l++) {
            index.ntotal += faiss::idx_t(sizes[l]);
        }
        lists->totsize = size_t(index.ntotal) * (index.code_size + sizeof(faiss::idx_t));
        lists->ptr = nullptr;
        lists->read_only = true;
        index.is_trained = true;
        index.nprobe = nprobe;
        index.replace_invlists(lists.get(), false);
        faiss::write_index(&index, path);
    });
}

// Reads the index at `path` and finds the `k` nearest vectors of each of `n` queries. With `probes` 0 the
// index's own number of probes is used. A reference for tests.
int lowland_search(
        const char* path,
        size_t n,
        size_t k,
        size_t probes,
        const float* queries,
        float* distances,
        int64_t* ids,
        char* why) {
    return guarded(why, [&] {
        std::unique_ptr<faiss::Index> index(
                faiss::read_index(path, faiss::IO_FLAG_ONDISK_SAME_DIR | faiss::IO_FLAG_READ_ONLY));
        if (auto* ivf = dynamic_cast<faiss::IndexIVF*>(index.get())) {
            if (probes > 0) {
                ivf->nprobe = probes;
            }
        }
        index->search(faiss::idx_t(n), queries, faiss::idx_t(k), distances, ids);
    });
}

} // extern "C"
