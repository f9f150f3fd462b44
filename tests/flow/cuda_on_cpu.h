// Runs CUDA kernels without a GPU: included before a .cu file, which g++ then takes for C++.
//
// A block is a thread of the system, its threads are fibers of that one. They run one after the other, each up to a
// barrier or an exchange within its warp, in an order drawn anew each time: what depends on the order, for want of a
// barrier, comes out different from run to run. What a GPU would forbid stops the run with a message: a barrier
// that some threads never reach, lanes of a warp that go separate ways. Shared memory begins as NaN.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <setjmp.h>
#include <ucontext.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

using std::max;
using std::min;

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __shared__ static thread_local

struct float2 {
    float x, y;
};
struct float4 {
    float x, y, z, w;
};
struct Index {
    unsigned x;
};
inline float2 make_float2(float x, float y) { return {x, y}; }

template <class To, class From> To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
}
inline float __int_as_float(int x) { return bits_as<float>(x); }
inline int __float_as_int(float x) { return bits_as<int>(x); }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
// As far off as PTX allows: 2^-22.9 of the value.
inline float rsqrt_approx(float x) {
    static thread_local std::minstd_rand random;
    const double most = 1.28e-7;  // 2^-22.9
    return float((1 + most * (double(random()) / random.max() * 2 - 1)) / std::sqrt(double(x)));
}
inline float __fdiv_rn(float x, float y) { return x / y; }
template <class T> T atomicAdd(T *at, T value) { return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST); }

namespace emulator {

enum { WARP_SIZE = 32, STACK_BYTES = 64 * 1024 };
enum Waiting { READY, AT_BARRIER, AT_EXCHANGE, DONE };

struct Fiber {
    ucontext_t context;  // only to begin with: swapcontext asks the kernel at each turn, longjmp does not
    bool has_begun = false;
    jmp_buf place;
    std::vector<char> stack;
    Waiting waiting = READY;
    float given, got[WARP_SIZE];
};

inline thread_local jmp_buf scheduler;
inline thread_local std::vector<Fiber> fibers;
inline thread_local std::vector<float4> dynamic_shared;
inline thread_local unsigned current;

[[noreturn]] inline void stop(const char *why) {
    std::fprintf(stderr, "cuda_on_cpu: %s\n", why);
    std::abort();
}

}  // namespace emulator

inline thread_local Index threadIdx, blockIdx, blockDim, gridDim;

// Whether the smallest numbers are taken for zero, as a GPU does when told to (-ftz=true).
inline bool flushes_to_zero = false;
extern "C" void flush_to_zero(bool whether) { flushes_to_zero = whether; }

namespace emulator {

inline void wait(Waiting why) {
    Fiber &fiber = fibers[current];
    fiber.waiting = why;
    if (!_setjmp(fiber.place)) _longjmp(scheduler, 1);
}

inline void go_on(Fiber &fiber) {
    if (_setjmp(scheduler)) return;
    if (fiber.has_begun) _longjmp(fiber.place, 1);
    fiber.has_begun = true;
    setcontext(&fiber.context);
}

// Everybody's value, once all lanes of the warp have given theirs.
inline const float *exchange(float value) {
    fibers[current].given = value;
    wait(AT_EXCHANGE);
    return fibers[current].got;
}

// Lets a warp go on whose lanes have all given a value; false where some are elsewhere.
inline bool exchanged(unsigned first) {
    for (unsigned lane = 0; lane < WARP_SIZE; ++lane)
        if (fibers[first + lane].waiting != AT_EXCHANGE) return false;
    for (unsigned lane = 0; lane < WARP_SIZE; ++lane) {
        Fiber &fiber = fibers[first + lane];
        for (unsigned other = 0; other < WARP_SIZE; ++other) fiber.got[other] = fibers[first + other].given;
        fiber.waiting = READY;
    }
    return true;
}

template <class Body> void begin(unsigned low, unsigned high) {
    (*reinterpret_cast<Body *>(uintptr_t(low) | uintptr_t(high) << 32))();
    wait(DONE);
}

template <class Body> void run_block(Body &body, unsigned threads, size_t shared_bytes, unsigned seed) {
    std::mt19937 random(seed);
    dynamic_shared.assign(shared_bytes / sizeof(float4) + 1, float4{NAN, NAN, NAN, NAN});
    fibers.resize(threads);
    std::vector<unsigned> order(threads);
    for (unsigned k = 0; k < threads; ++k) {
        Fiber &fiber = fibers[order[k] = k];
        fiber.stack.resize(STACK_BYTES);
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = STACK_BYTES;
        uintptr_t at = reinterpret_cast<uintptr_t>(&body);
        makecontext(&fiber.context, reinterpret_cast<void (*)()>(begin<Body>), 2, unsigned(at), unsigned(at >> 32));
    }
    for (;;) {
        bool moved = false;
        unsigned at_barrier = 0, done = 0;
        // Warps in one order, lanes in another: a shuffle of all would take longer than the kernel.
        std::shuffle(order.begin(), order.end(), random);
        for (unsigned first : order) {
            if (first % WARP_SIZE) continue;
            unsigned turn = random();
            for (unsigned k = 0; k < WARP_SIZE; ++k) {
                current = first + (turn & 32 ? turn + k : turn - k) % WARP_SIZE;
                Fiber &fiber = fibers[current];
                if (fiber.waiting == READY) {
                    moved = true;
                    threadIdx.x = current;
                    go_on(fiber);
                }
            }
            moved |= exchanged(first);
        }
        for (Fiber &fiber : fibers) {
            at_barrier += fiber.waiting == AT_BARRIER;
            done += fiber.waiting == DONE;
        }
        if (done == threads) return;
        if (at_barrier == threads) {
            for (Fiber &fiber : fibers) fiber.waiting = READY;
        } else if (!moved) {
            stop("threads of a block wait for others that do not come");
        }
    }
}

template <class... Arguments, size_t... At>
void run_grid(
    void (*kernel)(Arguments...), std::index_sequence<At...>, unsigned blocks, unsigned threads, size_t shared_bytes,
    unsigned seed, void **arguments
) {
    if (threads % WARP_SIZE) stop("a block must be whole warps");
    std::vector<std::thread> running;
    for (unsigned block = 0; block < blocks; ++block)
        running.emplace_back([=] {
            blockIdx.x = block;
            blockDim.x = threads;
            gridDim.x = blocks;
#ifdef __SSE__
            if (flushes_to_zero) _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
            auto body = [=] { kernel(*static_cast<Arguments *>(arguments[At])...); };
            run_block(body, threads, shared_bytes, seed + block);
        });
    for (std::thread &thread : running) thread.join();
}

}  // namespace emulator

inline void __syncthreads() { emulator::wait(emulator::AT_BARRIER); }

// Of whole numbers, up to 2^24.
inline int __shfl_sync(unsigned, int value, unsigned lane) { return int(emulator::exchange(float(value))[lane]); }

inline float __shfl_up_sync(unsigned, float value, unsigned delta, unsigned width = 32) {
    unsigned lane = threadIdx.x % 32;
    const float *all = emulator::exchange(value);
    return lane % width < delta ? value : all[lane - delta];
}

inline float __shfl_down_sync(unsigned, float value, unsigned delta, unsigned width = 32) {
    unsigned lane = threadIdx.x % 32;
    const float *all = emulator::exchange(value);
    return lane % width + delta >= width ? value : all[lane + delta];
}

namespace emulator {
template <class... Arguments> std::index_sequence_for<Arguments...> indices(void (*)(Arguments...)) { return {}; }
}  // namespace emulator

#define LAUNCHABLE(kernel)                                                                                              \
    extern "C" void launch_##kernel(                                                                                    \
        unsigned blocks, unsigned threads, size_t shared_bytes, unsigned seed, void **arguments                         \
    ) {                                                                                                                 \
        emulator::run_grid(kernel, emulator::indices(kernel), blocks, threads, shared_bytes, seed, arguments);          \
    }
