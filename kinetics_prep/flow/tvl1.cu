// The kernels of TV-L1 for CUDA: float32, a block of threads for each pair of frames.
//
// The same kernels as in `numpy_kernels` under CUDA_RULE and in `numba_kernels`: the same names, the same mathematics,
// and the bits of `numba_kernels`. Every operation is exact by IEEE 754 and in the CPU's order, and only fmaf is fused
// (compiled with -fmad=false). The scaling is that of numba_kernels, too: RHO, BOUND, NX and NY express the threshold
// operator, and p is stored times theta.
//
// One pair, one block. A block computes the flow of a pair from the coarsest level to the finest by itself, including
// the stop rule, and then takes the next pair from a queue. So nothing waits for the host or for other blocks, and a
// clip takes two launches. A GPU holds some hundred blocks at a time; a clip has 250 pairs, and several clips are in
// progress in streams of their own.
//
// One strip of columns, one warp. A warp takes a strip of SPAN columns down the picture, PIXELS columns per lane, and
// does up to STAGES iterations on the way, each a row behind the previous iteration: the row above has its new p when u
// in this row is done. What an iteration needs of the row above stays in registers; what it needs of the next columns
// comes from the neighbouring lane; the four fields that do not change wait in shared memory for each stage in turn. A
// lane reads there only what it wrote itself, so no lane waits for another within a pass.
//
// With each iteration, one column at each edge of a strip becomes wrong, and one row at its upper and lower end. So
// strips overlap, and a warp stores only the right part. A pass therefore reads one half of a pair of buffers and
// writes the other.
//
// In memory, sixteen columns of each field are stored one field after another, so a lane finds all fields of a row at
// fixed distances from one address.

typedef unsigned char Byte;
typedef long long Long;

// STAGES, THREADS and BLOCKS_A_MULTIPROCESSOR come from cuda_kernels.py, which uses them to lay out memory.
enum { WARP = 32, PIXELS = 2, SPAN = WARP * PIXELS, STEP = SPAN - 2 * STAGES };
enum { LANES = 16 };  // columns stored together; and, as on the CPU, partial sums in x

enum { U1, U2, P11, P12, P21, P22, VARIABLES };
enum { RHO, NX, NY, BOUND, CONSTANTS };
enum { GO_ON, BEGIN_WARP, BEGIN_LEVEL };
enum { FLOAT, SYMMETRIC, MEDIAPIPE, DENSEFLOW };

static const float FLT_EPSILON_ = 1.1920929e-07f;

// A level's place in memory, as the host computes it: int64 [levels, 4].
struct Level {
    Long height, width, pitch;  // pitch: numbers from a row to the next
    Long at;                    // where in a pyramid its image begins; I1x and I1y follow it
};

struct Settings {
    float tau, taut, bound;  // tau; tau / theta; lambda theta
    float least;             // see `ng_of`
    int warps, iterations;
    double epsilon;
};

// One of several fields that are stored together.
struct Field {
    float *first;
    Long row;   // numbers from a row to the next
    int block;  // numbers from sixteen columns to the next

    __device__ float &at(int y, int x) const { return first[y * row + x / LANES * block + x % LANES]; }
};

struct Image {
    Field field;
    int height, width;
};

// One level of a pair.
struct State {
    const float *I0, *I1, *I1x, *I1y;
    float *variables, *others, *constants;  // the variables, and where they go next
    float *change, *row_change;
    int height, width, pitch;
    int passes;  // so far, of this level

    __device__ Field variable(int which) const { return {variables + which * LANES, pitch * VARIABLES, VARIABLES * LANES}; }
    __device__ Field other(int which) const { return {others + which * LANES, pitch * VARIABLES, VARIABLES * LANES}; }
    __device__ Field constant(int which) const { return {constants + which * LANES, pitch * CONSTANTS, CONSTANTS * LANES}; }
    __device__ int pixels() const { return height * width; }

    __device__ void swap() {
        float *old = variables;
        variables = others;
        others = old;
    }
};

// Resizing ------------------------------------------------------------------------------------------

struct Neighbours {
    int before, after;
    float share;
};

// As tvl1.neighbours, for a single new pixel.
__device__ Neighbours neighbours(int index, int of, double stride) {
    double place = index * stride;
    int before = (int)floor(place);
    return {min(before, of - 1), min(before + 1, of - 1), (float)(place - before)};
}

__device__ float between(float a, float b, float share) { return fmaf(share, b - a, a); }

// Resizes an image bilinearly and multiplies it by `scale`, with all threads of a block.
__device__ void resize(Image image, Image result, double stride_y, double stride_x, float scale) {
    for (int y = threadIdx.x / WARP; y < result.height; y += blockDim.x / WARP) {
        Neighbours rows = neighbours(y, image.height, stride_y);
        for (int x = threadIdx.x % WARP; x < result.width; x += WARP) {
            Neighbours columns = neighbours(x, image.width, stride_x);
            float left = between(image.field.at(rows.before, columns.before), image.field.at(rows.after, columns.before), rows.share);
            float right = between(image.field.at(rows.before, columns.after), image.field.at(rows.after, columns.after), rows.share);
            result.field.at(y, x) = between(left, right, columns.share) * scale;
        }
    }
}

// Writes the gradient of an image behind it, first in x, then in y.
__device__ void centred_gradient(float *image, Long pitch, int height, int width) {
    float *dx = image + height * pitch, *dy = dx + height * pitch;
    for (int y = threadIdx.x / WARP; y < height; y += blockDim.x / WARP) {
        const float *row = image + y * pitch;
        const float *above = image + max(y - 1, 0) * pitch, *below = image + min(y + 1, height - 1) * pitch;
        for (int x = threadIdx.x % WARP; x < width; x += WARP) {
            dx[y * pitch + x] = (row[min(x + 1, width - 1)] - row[max(x - 1, 0)]) * 0.5f;
            dy[y * pitch + x] = (below[x] - above[x]) * 0.5f;
        }
    }
}

__device__ Image image_of(float *pyramid, Level of) {
    return {{pyramid + of.at, of.pitch, LANES}, (int)of.height, (int)of.width};
}

// Writes frames, uint8 [frames, H, W], into pyramids, in each of the sizes with its gradients: a block per frame.
// pyramids: float32 [frames, numbers].
extern "C" __global__ void fill_pyramids(
    const Byte *frames, float *pyramids, Long numbers, const Level *levels, int level_count, double stride
) {
    float *pyramid = pyramids + blockIdx.x * numbers;
    for (int level = 0; level < level_count; ++level) {
        Level of = levels[level];
        float *image = pyramid + of.at;
        if (level == 0) {
            const Byte *frame = frames + blockIdx.x * of.height * of.width;
            for (int y = threadIdx.x / WARP; y < of.height; y += blockDim.x / WARP)
                for (int x = threadIdx.x % WARP; x < of.width; x += WARP)
                    image[y * of.pitch + x] = frame[y * of.width + x];
        } else {
            Level finer = levels[level - 1];
            resize(image_of(pyramid, finer), image_of(pyramid, of), stride, stride, 1.0f);
        }
        __syncthreads();
        centred_gradient(image, of.pitch, of.height, of.width);
    }
}

// Warping -------------------------------------------------------------------------------------------

// Keys' kernel, a = -1/2, at distances from 0 to 1, and from 1 to 2.
__device__ float near_(float distance) {
    return fmaf(fmaf(1.5f, distance, -2.5f), distance * distance, 1.0f);
}

__device__ float far_(float distance) {
    return fmaf(fmaf(fmaf(-0.5f, distance, 2.5f), distance, -4.0f), distance, 2.0f);
}

// The same at any distance.
__device__ float cubic(float distance) {
    float e = fmaxf(2.0f - fabsf(distance), 0.0f), e_1 = e - 1.0f, b = fmaxf(e_1, 0.0f);
    return fmaf(e * e * e_1, 0.5f, b * b * fmaf(-2.0f, b, 1.0f));
}

__device__ float clamped(float x, float least, float most) { return fminf(fmaxf(x, least), most); }

__device__ float weighed(const float *row, const int *columns, const float *weights) {
    float value = row[columns[0]] * weights[0];
    value = fmaf(row[columns[1]], weights[1], value);
    value = fmaf(row[columns[2]], weights[2], value);
    return fmaf(row[columns[3]], weights[3], value);
}

// Warps I1 and its gradient by u, and stores the four fields of the threshold operator.
__device__ void linearise(const State &state, const Settings &settings) {
    for (int y0 = threadIdx.x / WARP; y0 < state.height; y0 += blockDim.x / WARP) {
        for (int x0 = threadIdx.x % WARP; x0 < state.width; x0 += WARP) {
            float u1 = state.variable(U1).at(y0, x0), u2 = state.variable(U2).at(y0, x0);
            // Two or more pixels outside the picture, every pixel has the border's colour.
            float x = clamped(x0 + u1, -2.0f, state.width + 1.0f), y = clamped(y0 + u2, -2.0f, state.height + 1.0f);
            float left = floorf(x), top = floorf(y), t = x - left;
            float weights[4] = {far_(t + 1.0f), near_(t), near_(1.0f - t), far_(2.0f - t)};
            int columns[4];
            for (int k = 0; k < 4; ++k) columns[k] = min(max((int)left - 1 + k, 0), state.width - 1);
            float I1w = 0.0f, I1wx = 0.0f, I1wy = 0.0f;
            for (int k = 0; k < 4; ++k) {
                float row = top + (k - 1), weight = cubic(y - row);
                Long begin = (Long)min(max((int)row, 0), state.height - 1) * state.pitch;
                I1w = fmaf(weighed(state.I1 + begin, columns, weights), weight, I1w);
                I1wx = fmaf(weighed(state.I1x + begin, columns, weights), weight, I1wx);
                I1wy = fmaf(weighed(state.I1y + begin, columns, weights), weight, I1wy);
            }
            float rho = I1w - I1wx * u1 - I1wy * u2 - state.I0[(Long)y0 * state.pitch + x0];
            float grad = fmaf(I1wx, I1wx, I1wy * I1wy), g = __fsqrt_rn(grad);
            // A flat place says nothing about the motion; see numba_kernels.
            float inverse = grad > FLT_EPSILON_ ? __fdiv_rn(1.0f, g) : 0.0f;
            state.constant(RHO).at(y0, x0) = rho * inverse;
            state.constant(NX).at(y0, x0) = I1wx * inverse;
            state.constant(NY).at(y0, x0) = I1wy * inverse;
            state.constant(BOUND).at(y0, x0) = g * settings.bound;
        }
    }
}

__device__ void clear(const State &state, int from, int upto) {
    for (int y = threadIdx.x / WARP; y < state.height; y += blockDim.x / WARP)
        for (int x = threadIdx.x % WARP; x < state.width; x += WARP)
            for (int which = from; which <= upto; ++which) state.variable(which).at(y, x) = 0.0f;
}

// Iterating -----------------------------------------------------------------------------------------

// The variables of a lane's pixels in one row.
struct Row {
    float u1[PIXELS], u2[PIXELS], p11[PIXELS], p12[PIXELS], p21[PIXELS], p22[PIXELS];
};

// 1 / x to 1e-7, by the steps of numba_kernels.
__device__ float reciprocal(float x) {
    float y = __int_as_float(0x7EF311C3 - __float_as_int(x)), error = fmaf(-x, y, 1.0f);
    y = fmaf(y, fmaf(error, error, error), y);
    return fmaf(y, fmaf(-x, y, 1.0f), y);
}

#ifdef __CUDACC__
__device__ float rsqrt_approx(float x) {
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#endif

// The square root, rounded as in IEEE 754, of a number of at least 2^-100 that is finite; without the branches of
// __fsqrt_rn. Markstein's method ("Computation of elementary functions on the IBM RISC System/6000
// processor", 1990): the guess may be as bad as PTX allows on any GPU, 2^-22.9.
__device__ float sqrt_of(float x) {
    float y = rsqrt_approx(x), root = x * y, half = 0.5f * y;
    float error = fmaf(-root, half, 0.5f);
    root = fmaf(root, error, root);
    half = fmaf(half, error, half);
    return fmaf(fmaf(-root, root, x), half, root);
}

// The divisor of p, 1 + taut |gradient|. A length so small that rounding loses it counts as `least`.
__device__ float ng_of(float ux, float uy, const Settings &settings) {
    return fmaf(settings.taut, sqrt_of(fmaxf(fmaf(ux, ux, uy * uy), settings.least)), 1.0f);
}

// u from v and p, and v from u by thresholding rho.
__device__ float2 primal(float u1, float u2, const float *constant, float p11_x, float p12_y, float p21_x, float p22_y) {
    float nx = constant[NX * SPAN], ny = constant[NY * SPAN];
    float rho = fmaf(ny, u2, fmaf(nx, u1, constant[RHO * SPAN]));
    float d = -copysignf(fminf(fabsf(rho), constant[BOUND * SPAN]), rho);
    return make_float2(fmaf(d, nx, u1) + p11_x + p12_y, fmaf(d, ny, u2) + p21_x + p22_y);
}

// An iteration's part in a row: computes u there, and p in the row above.
//
// above: the row above, with the new u and the old p; becomes this row, in the same state.
// row: this row after the previous iteration; becomes the row above, with the new u and p.
// constants: this lane's constants in this row.
__device__ void iterate_row(
    Row &above, Row &row, const float *constants, const Settings &settings, int x, int width, bool is_below, float *changes
) {
    const unsigned all = 0xFFFFFFFFu;
    Row here = row;
    // p left of the first pixel is zero. At the edge of a strip it is not, but no warp stores that edge.
    float left11 = __shfl_up_sync(all, row.p11[PIXELS - 1], 1), left21 = __shfl_up_sync(all, row.p21[PIXELS - 1], 1);
    if (x == 0) left11 = left21 = 0.0f;
    for (int k = 0; k < PIXELS; ++k) {
        float2 u = primal(row.u1[k], row.u2[k], constants + k, row.p11[k] - left11, row.p12[k] - above.p12[k],
                          row.p21[k] - left21, row.p22[k] - above.p22[k]);
        left11 = row.p11[k];
        left21 = row.p21[k];
        // Below the last row, u repeats the last row.
        here.u1[k] = is_below ? above.u1[k] : u.x;
        here.u2[k] = is_below ? above.u2[k] : u.y;
        float d1 = here.u1[k] - row.u1[k], d2 = here.u2[k] - row.u2[k];
        changes[k] = fmaf(d1, d1, d2 * d2);
    }
    float right1 = __shfl_down_sync(all, above.u1[0], 1), right2 = __shfl_down_sync(all, above.u2[0], 1);
    for (int k = PIXELS - 1; k >= 0; --k) {
        // Right of the last pixel, u repeats that pixel.
        bool is_last = x + k == width - 1;
        float u1 = above.u1[k], u2 = above.u2[k];
        float u1x = is_last ? 0.0f : right1 - u1, u1y = here.u1[k] - u1;
        float u2x = is_last ? 0.0f : right2 - u2, u2y = here.u2[k] - u2;
        float ng1 = ng_of(u1x, u1y, settings), ng2 = ng_of(u2x, u2y, settings);
        float r = reciprocal(ng1 * ng2), r1 = r * ng2, r2 = r * ng1;
        row.u1[k] = u1;
        row.u2[k] = u2;
        row.p11[k] = fmaf(settings.tau, u1x, above.p11[k]) * r1;
        row.p12[k] = fmaf(settings.tau, u1y, above.p12[k]) * r1;
        row.p21[k] = fmaf(settings.tau, u2x, above.p21[k]) * r2;
        row.p22[k] = fmaf(settings.tau, u2y, above.p22[k]) * r2;
        right1 = u1;
        right2 = u2;
    }
    above = here;
}

__device__ void load(Row &row, const float *at) {
    float *fields[VARIABLES] = {row.u1, row.u2, row.p11, row.p12, row.p21, row.p22};
    for (int which = 0; which < VARIABLES; ++which) {
        float2 two = *(const float2 *)(at + which * LANES);
        fields[which][0] = two.x;
        fields[which][1] = two.y;
    }
}

__device__ void store(const Row &row, float *at) {
    const float *fields[VARIABLES] = {row.u1, row.u2, row.p11, row.p12, row.p21, row.p22};
    for (int which = 0; which < VARIABLES; ++which)
        *(float2 *)(at + which * LANES) = make_float2(fields[which][0], fields[which][1]);
}

// Where a strip is: SPAN columns from `first` on, of which it stores those from `begin` to `end`.
struct Strip {
    int first, begin, end;
};

__device__ int strips_of(int width) { return width <= SPAN ? 1 : 1 + (width - SPAN + STEP - 1) / STEP; }

__device__ Strip strip_of(int index, int width) {
    int first = index * STEP;
    bool is_last = index == strips_of(width) - 1;
    return {first, index == 0 ? 0 : first + STAGES, is_last ? width : first + SPAN - STAGES};
}

// A warp's task: rows y0 to y1 of a strip.
struct Task {
    Strip strip;
    int y0, y1;
};

// Moves COUNT iterations a row further down: the first reaches row `front`, the second the row above, and so on.
//
// rows: float32 [STAGES, CONSTANTS, SPAN], shared memory, the latest rows of the constants.
// first, last: the first and the last row that exist; only near them (IS_EDGE) must a row be checked.
template <int COUNT, bool IS_EDGE>
__device__ void advance(
    const State &state, const Settings &settings, const Task &task, int front, int first, int last, bool measured,
    float *rows, Row *above
) {
    int lane = threadIdx.x % WARP, x = task.strip.first + lane * PIXELS;
    bool is_kept = x >= task.strip.begin && x < task.strip.end;
    rows += lane * PIXELS;
    Row row = {};
    if (!IS_EDGE || front < last) {
        load(row, &state.variable(0).at(front, x));
        const float *from = &state.constant(0).at(front, x);
        float *slot = rows + front % STAGES * (CONSTANTS * SPAN);
        for (int which = 0; which < CONSTANTS; ++which)
            *(float2 *)(slot + which * SPAN) = *(const float2 *)(from + which * LANES);
    }
#pragma unroll
    for (int stage = 0; stage < COUNT; ++stage) {
        int y = front - stage;
        if (IS_EDGE && (y < first || y > last)) continue;
        float changes[PIXELS];
        const float *slot = rows + (unsigned)y % STAGES * (CONSTANTS * SPAN);
        iterate_row(above[stage], row, slot, settings, x, state.width, IS_EDGE && y == last, changes);
        if (stage == COUNT - 1 && measured && is_kept && y >= task.y0 && y < task.y1)
            *(float2 *)(state.change + (Long)y * state.pitch + x) = make_float2(changes[0], changes[1]);
    }
    int y = front - COUNT;
    if (is_kept && y >= task.y0 && y < task.y1) store(row, &state.other(0).at(y, x));
}

// COUNT iterations on the rows and columns of a task, by a single warp.
template <int COUNT>
__device__ void sweep(const State &state, const Settings &settings, const Task &task, bool measured, float *rows) {
    int first = max(task.y0 - COUNT, 0), last = min(task.y1 + COUNT, state.height), front = first;
    Row above[COUNT] = {};
    for (; front < min(first + COUNT, last); ++front)
        advance<COUNT, true>(state, settings, task, front, first, last, measured, rows, above);
    for (; front < last; ++front)
        advance<COUNT, false>(state, settings, task, front, first, last, measured, rows, above);
    for (; front < last + COUNT; ++front)
        advance<COUNT, true>(state, settings, task, front, first, last, measured, rows, above);
}

// A number that is the same in all lanes. This only informs the compiler, which then need not provide for lanes that
// diverge.
__device__ int uniform(int number) { return __shfl_sync(0xFFFFFFFFu, number, 0); }

// COUNT iterations by a block: its warps divide the rows of all strips evenly.
template <int COUNT> __device__ void iterate_together(State &state, const Settings &settings, bool measured, float *rows) {
    int warp = uniform(threadIdx.x / WARP), warps = blockDim.x / WARP, height = uniform(state.height);
    Long all = (Long)strips_of(state.width) * height, at = all * warp / warps, end = all * (warp + 1) / warps;
    while (at < end) {
        int index = uniform((int)(at / height)), y0 = uniform((int)(at % height));
        Task task = {strip_of(index, state.width), y0, uniform((int)min((Long)height, y0 + end - at))};
        sweep<COUNT>(state, settings, task, uniform(measured), rows + warp * (STAGES * CONSTANTS * SPAN));
        at += task.y1 - y0;
    }
    state.swap();
    state.passes += 1;
    __syncthreads();
}

// The change of u in each row, summed in the order of numba_kernels: sixteen sums, which are added by halves.
__device__ void change_of_rows(const State &state) {
    int lane = threadIdx.x % LANES, step = blockDim.x / LANES;
    for (int y0 = 0; y0 < state.height; y0 += step) {
        int y = y0 + threadIdx.x / LANES;
        float sum = 0.0f;
        if (y < state.height)
            for (int x = lane; x < state.width; x += LANES) sum += state.change[(Long)y * state.pitch + x];
        for (int half = LANES / 2; half > 0; half /= 2) sum += __shfl_down_sync(0xFFFFFFFFu, sum, half, LANES);
        if (lane == 0 && y < state.height) state.row_change[y] = sum;
    }
}

__device__ double total_change(const State &state) {
    __shared__ double total;
    change_of_rows(state);
    __syncthreads();
    if (threadIdx.x == 0) {
        double sum = 0.0;
        for (int y = 0; y < state.height; ++y) sum += state.row_change[y];
        total = sum;
    }
    __syncthreads();
    double result = total;
    __syncthreads();
    return result;
}

// `count` iterations, see tvl1.iterate.
__device__ double iterate(
    State &state, const Settings &settings, int begin, int count, bool measured, float *rows
) {
    if (begin == BEGIN_LEVEL) clear(state, P11, P22);
    if (begin != GO_ON) {
        linearise(state, settings);
        __syncthreads();
    }
    while (count > 0) {
        // Each number of iterations is compiled to code of its own, without branches; so there are few of them.
        int together = count >= STAGES ? STAGES : count >= 4 ? 4 : count >= 2 ? 2 : 1;
        bool is_last = together == count;
        if (together == STAGES) iterate_together<STAGES>(state, settings, measured && is_last, rows);
        else if (together == 4) iterate_together<4>(state, settings, measured && is_last, rows);
        else if (together == 2) iterate_together<2>(state, settings, measured && is_last, rows);
        else iterate_together<1>(state, settings, measured && is_last, rows);
        count -= together;
    }
    return measured ? total_change(state) : 1e300;
}

// The algorithm -------------------------------------------------------------------------------------

// As tvl1.next_measured.
__device__ int next_measured(int n, double previous, double threshold, int iterations, bool &measured) {
    int count = 0;
    measured = false;
    while (n + count < iterations) {
        bool is_odd = (n + count) % 2 == 1;
        count += 1;
        if (is_odd && previous < threshold) {
            measured = true;
            break;
        }
        previous -= threshold;
    }
    return count;
}

// As tvl1.solve.
__device__ Long solve(State &state, const Settings &settings, float *rows) {
    double threshold = settings.epsilon * settings.epsilon * state.pixels();
    Long taken = 0;
    for (int warp = 0; warp < settings.warps; ++warp) {
        int n = 0;
        double change = 1e300, previous = 0.0;
        while (change > threshold && n < settings.iterations) {
            bool measured;
            int begin = n > 0 ? GO_ON : warp > 0 ? BEGIN_WARP : BEGIN_LEVEL;
            int count = next_measured(n, previous, threshold, settings.iterations, measured);
            change = iterate(state, settings, begin, count, measured, rows);
            previous = change;
            n += count;
        }
        taken += n;
    }
    return taken;
}

// Quantizing, as media/quantize.py does it ----------------------------------------------------------------

__device__ Byte quantized(float v, int quantizer, float bound, float steps, float span) {
    if (quantizer == SYMMETRIC) return (Byte)(rintf(clamped(v, -bound, bound) * steps) + 128.0f);
    float unit = clamped(__fdiv_rn(v + bound, span), 0.0f, 1.0f) * 255.0f;
    return (Byte)(quantizer == MEDIAPIPE ? unit : rintf(unit));
}

// Writes u of the finest level to the result: float32 or uint8 [H, W, 2].
// counts: how many values lie beyond the bound, and how many are not finite.
__device__ void hand_over(
    const State &state, void *result, int quantizer, float bound, float steps, float span, int *counts
) {
    int beyond = 0, not_finite = 0;
    for (int y = threadIdx.x / WARP; y < state.height; y += blockDim.x / WARP) {
        for (int x = threadIdx.x % WARP; x < state.width; x += WARP) {
            Long to = ((Long)y * state.width + x) * 2;
            for (int k = 0; k < 2; ++k) {
                float v = state.variable(U1 + k).at(y, x);
                beyond += fabsf(v) > bound;
                not_finite += !(fabsf(v) <= 3.4028235e38f);
                if (quantizer == FLOAT) ((float *)result)[to + k] = v;
                else ((Byte *)result)[to + k] = quantized(v, quantizer, bound, steps, span);
            }
        }
    }
    atomicAdd(&counts[0], beyond);
    atomicAdd(&counts[1], not_finite);
}

// Computes the flow from each frame to the next, with as many blocks as fit, each with fields of its own.
//
// pyramids: float32 [pairs + 1, numbers], of `fill_pyramids`. fields: float32 [blocks, room], room as on the host:
// 2 VARIABLES + CONSTANTS + 1 planes of the finest level and a number for each row. queue: one number, 0.
// results: float32 or uint8 [pairs, H, W, 2]. counts: int32 [pairs, 2], zeros. work: int64 [pairs, 2], iterations
// and passes, of all pixels. Shared memory: blockDim.x / WARP * STAGES * CONSTANTS * SPAN numbers.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_A_MULTIPROCESSOR) flow_between(
    const float *pyramids, Long numbers, const Level *levels, int level_count, float *fields, Long room, int *queue,
    int pairs, float tau, float taut, float lambda_theta, float scale, float least, double epsilon, int warps,
    int iterations, void *results, int quantizer, float bound, float steps, float span, int *counts, Long *work
) {
    extern __shared__ float4 shared_memory[];
    __shared__ int next;
    float *rows = (float *)shared_memory;
    Settings settings = {tau, taut, lambda_theta, least, warps, iterations, epsilon};
    Level finest = levels[0];
    float *own = fields + blockIdx.x * room;
    State state = {};
    Long plane = finest.height * finest.pitch;
    for (;;) {
        if (threadIdx.x == 0) next = atomicAdd(queue, 1);
        __syncthreads();
        int pair = next;
        __syncthreads();
        if (pair >= pairs) return;
        Long iterated = 0, passed = 0;
        state.variables = own;
        state.others = own + VARIABLES * plane;
        state.constants = own + 2 * VARIABLES * plane;
        state.change = own + (2 * VARIABLES + CONSTANTS) * plane;
        state.row_change = state.change + plane;
        for (int level = level_count - 1; level >= 0; --level) {
            Level of = levels[level];
            Long image = of.height * of.pitch;
            state.I0 = pyramids + pair * numbers + of.at;
            state.I1 = state.I0 + numbers;
            state.I1x = state.I1 + image;
            state.I1y = state.I1x + image;
            State coarser = state;
            state.height = (int)of.height;
            state.width = (int)of.width;
            state.pitch = (int)of.pitch;
            if (level == level_count - 1) {
                clear(state, U1, U2);
            } else {
                for (int which = U1; which <= U2; ++which)
                    resize({coarser.variable(which), coarser.height, coarser.width},
                           {state.other(which), state.height, state.width},
                           (double)coarser.height / state.height, (double)coarser.width / state.width, scale);
                state.swap();
            }
            __syncthreads();
            state.passes = 0;
            iterated += solve(state, settings, rows) * state.pixels();
            passed += (Long)state.passes * state.pixels();
        }
        Byte *result = (Byte *)results + (Long)pair * finest.height * finest.width * 2 * (quantizer == FLOAT ? 4 : 1);
        hand_over(state, result, quantizer, bound, steps, span, counts + 2 * pair);
        if (threadIdx.x == 0) {
            work[2 * pair] = iterated;
            work[2 * pair + 1] = passed;
        }
        __syncthreads();
    }
}
