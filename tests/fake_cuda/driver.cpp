// A driver without a GPU: libcuda.so.1 as far as lowland calls it, for tests. Its memory
// is the process's, its kernels are layout.cu and join.cu as a C++ compiler takes it, and each call
// is done when it returns. So what lowland keeps, sends, launches and fetches is tested
// where there is no GPU, and so are faults, by the environment:
//
//     FAKE_CUDA_FREE     bytes of memory that it says there are (default 1 GiB)
//     FAKE_CUDA_MEMORY   bytes that there are (default as many)
//     FAKE_CUDA_VERSION  the version of CUDA that it knows (default 12040)
//     FAKE_CUDA_LAUNCHES launches after which the device is lost (default: never)
//     FAKE_CUDA_DEVICES  how many there are (default 1)
//     FAKE_CUDA_LOCKS    pieces of the process's memory that it locks (default: any number)
//     FAKE_CUDA_SENT     a file to write to, when it is unloaded, how many bytes were sent from
//                        memory that it locked, and how many from elsewhere

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <string>

#include <dlfcn.h>

#include "layout.cu"
#include "join.cu"

enum { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, BAD_DEVICE = 101, NOT_FOUND = 500, ALREADY = 712, LOST = 719 };
typedef int Result;
#define API extern "C" __attribute__((visibility("default"))) Result

static std::mutex lock;
static std::map<void*, size_t> held;
static size_t taken = 0;
static long launched = 0;
static bool lost = false;

static long long knob(const char* name, long long otherwise) {
    const char* text = std::getenv(name);
    return text ? std::atoll(text) : otherwise;
}
static size_t all() { return (size_t)knob("FAKE_CUDA_FREE", 1ll << 30); }

API cuInit(unsigned) { return knob("FAKE_CUDA_DEVICES", 1) ? OK : NO_DEVICE; }
API cuDriverGetVersion(int* version) { return *version = (int)knob("FAKE_CUDA_VERSION", 12040), OK; }
API cuDeviceGetCount(int* count) { return *count = (int)knob("FAKE_CUDA_DEVICES", 1), OK; }
API cuDeviceGet(int* device, int number) { return *device = number, number < knob("FAKE_CUDA_DEVICES", 1) ? OK : BAD_DEVICE; }
API cuDeviceGetName(char* name, int length, int) { return std::snprintf(name, length, "a GPU that is none"), OK; }
API cuDeviceGetAttribute(int* value, int, int) { return *value = 1, OK; }
API cuDevicePrimaryCtxRetain(void** context, int) { return *context = (void*)&held, OK; }
API cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API cuCtxSetCurrent(void*) { return OK; }
API cuCtxGetCurrent(void** context) { return *context = (void*)&held, OK; }
API cuCtxSynchronize() { return lost ? LOST : OK; }
API cuMemGetInfo_v2(size_t* left, size_t* total) { return *left = all() - taken, *total = all(), OK; }

API cuGetErrorName(Result error, const char** name) {
    return *name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : error == LOST ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR", OK;
}
API cuGetErrorString(Result error, const char** string) {
    return *string = error == OUT_OF_MEMORY ? "out of memory" : error == LOST ? "unspecified launch failure" : "an error", OK;
}

static char something;
API cuStreamCreate(void** stream, unsigned) { return *stream = &something, OK; }
API cuStreamDestroy_v2(void*) { return OK; }
API cuStreamSynchronize(void*) { return lost ? LOST : OK; }
API cuStreamWaitEvent(void*, void*, unsigned) { return OK; }
API cuEventCreate(void** event, unsigned) { return *event = &something, OK; }
API cuEventRecord(void*, void*) { return lost ? LOST : OK; }
API cuEventSynchronize(void*) { return lost ? LOST : OK; }
API cuEventDestroy_v2(void*) { return OK; }

API cuMemAllocAsync(void** at, size_t bytes, void*) {
    std::lock_guard<std::mutex> guard(lock);
    if (taken + bytes > (size_t)knob("FAKE_CUDA_MEMORY", (long long)all())) return OUT_OF_MEMORY;
    *at = std::malloc(bytes);
    // Not a number, until it is written.
    std::memset(*at, 0xff, bytes);
    held[*at] = bytes, taken += bytes;
    return OK;
}
API cuMemFreeAsync(void* at, void*) {
    std::lock_guard<std::mutex> guard(lock);
    if (!held.count(at)) return INVALID;
    taken -= held[at];
    held.erase(at);
    std::free(at);
    return OK;
}
API cuMemHostAlloc(void** at, size_t bytes, unsigned) { return *at = std::malloc(bytes), OK; }
API cuMemFreeHost(void* at) { return std::free(at), OK; }

// Pages that are locked in their place, and what was sent from them and from elsewhere.
static std::map<const char*, size_t> locked;
static size_t locks = 0;
static struct Sent {
    size_t from_locked, others;
    ~Sent() {
        const char* path = std::getenv("FAKE_CUDA_SENT");
        if (FILE* file = path ? std::fopen(path, "w") : nullptr)
            std::fprintf(file, "%zu %zu %zu\n", from_locked, others, locked.size()), std::fclose(file);
    }
} sent;
// The first piece of locked memory that ends after a place.
static std::map<const char*, size_t>::iterator piece_after(const char* at) {
    auto next = locked.upper_bound(at);
    if (next == locked.begin()) return next;
    auto before = std::prev(next);
    return before->first + before->second > at ? before : next;
}
API cuMemHostRegister_v2(void* at, size_t bytes, unsigned) {
    std::lock_guard<std::mutex> guard(lock);
    if (!bytes || (size_t)at % 4096 || bytes % 4096) return INVALID;
    if (locks >= (size_t)knob("FAKE_CUDA_LOCKS", 1l << 40)) return OUT_OF_MEMORY;
    auto next = piece_after((const char*)at);
    if (next != locked.end() && next->first < (const char*)at + bytes) return ALREADY;
    locked[(const char*)at] = bytes, locks++;
    return OK;
}
API cuMemHostUnregister(void* at) {
    std::lock_guard<std::mutex> guard(lock);
    return locked.erase((const char*)at) ? OK : INVALID;
}

// Whether so many bytes are within what was allocated.
static bool within(const void* at, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    auto after = held.upper_bound((void*)at);
    if (after == held.begin()) return false;
    const auto& [begin, length] = *--after;
    return (const char*)at + bytes <= (const char*)begin + length;
}
API cuMemcpyHtoDAsync_v2(void* to, const void* from, size_t bytes, void*) {
    if (lost || !within(to, bytes)) return lost ? LOST : INVALID;
    std::memcpy(to, from, bytes);
    std::lock_guard<std::mutex> guard(lock);
    auto piece = piece_after((const char*)from);
    const bool inside = piece != locked.end() && piece->first <= (const char*)from && (const char*)from + bytes <= piece->first + piece->second;
    (inside ? sent.from_locked : sent.others) += bytes;
    return OK;
}
API cuMemcpyDtoHAsync_v2(void* to, const void* from, size_t bytes, void*) {
    return lost ? LOST : within(from, bytes) ? std::memcpy(to, from, bytes), OK : INVALID;
}

// A module is its text; a function is found in it by name, and here by the same.
API cuModuleLoadData(void** module, const void* text) { return *module = new std::string((const char*)text), OK; }
API cuModuleUnload(void* module) { return delete (std::string*)module, OK; }
API cuModuleGetFunction(void** function, void* module, const char* name) {
    if (((std::string*)module)->find(std::string(".entry ") + name + "(") == std::string::npos) return NOT_FOUND;
    *function = dlsym(RTLD_DEFAULT, name);
    if (!*function) {
        Dl_info here;
        dladdr((void*)&cuInit, &here);
        *function = dlsym(dlopen(here.dli_fname, RTLD_NOW), name);
    }
    return *function ? OK : NOT_FOUND;
}
API cuLaunchKernel(void* function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned, unsigned, unsigned shared, void*,
                   void** arguments, void**) {
    if (lost || (lost = launched++ >= knob("FAKE_CUDA_LAUNCHES", 1l << 40))) return LOST;
    if (function == (void*)&join) {
        const Join* of = *(const Join**)&arguments[5];
        const unsigned squads = threads / 32, room = squads * (of->keep * 8 + (of->dim + 1) / 2 * 8);
        if (threads % 32 || threads > 256 || shared < room || shared > 48 << 10) return INVALID;
        if (blocks != (of->count + squads - 1) / squads) return INVALID;
        join(*(const float**)arguments[0], *(const u32**)arguments[1], *(const u32**)arguments[2],
             *(const u32**)arguments[3], *(u64**)arguments[4], of);
        return OK;
    }
    const Arguments* of = *(const Arguments**)&arguments[2];
    const u32 last = of->first + of->count, groups = (last + SHARING - 1) / SHARING - of->first / SHARING;
    if (threads > MOST_THREADS || blocks != groups) return INVALID;
    ((void (*)(const u32*, float*, const Arguments*))function)(*(const u32**)arguments[0], *(float**)arguments[1], of);
    return OK;
}
