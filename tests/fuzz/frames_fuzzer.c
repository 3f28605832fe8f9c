/* libFuzzer's entry to the C extension: frames to samples, and rows from residuals.
 *
 * Built by `python -m tests.fuzz.native`. EXTENSION is the source up to what Python calls, without
 * the comparisons of FLAC's CRCs, or no input would get beyond them. Six bytes in front
 * of the frames choose what Python would pass.
 */
#include EXTENSION

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    make_crc_tables();
    return 0;
}

static void fuzz_frames(const uint8_t *data, size_t size, const uint8_t *choice) {
    int channels = choice[1] % 8 + 1, bits = choice[2] % 29 + 4;
    static const int sizes[4] = {1, 2, 4, 8};
    Output o = {0};
    o.layout = choice[0] % 3, o.count = (choice[5] + 1) * 8;
    o.itemsize = o.layout == INTERLEAVED ? (bits <= 8 ? 1 : bits <= 16 ? 2 : 4) : sizes[choice[0] / 3 % 4];
    int max_blocksize = (choice[3] | choice[4] << 8) % MAX_BLOCKSIZE + 1;
    int64_t found = 0;
    size_t nbytes = (size_t)o.count * (o.layout == JOINED ? 1 : channels) * o.itemsize;
    /* Copies of the exact size, so that one byte too far is seen. */
    uint8_t *frames = malloc(size ? size : 1);
    o.data = malloc(nbytes);
    int32_t *block = malloc(sizeof(int32_t) * (size_t)max_blocksize * channels);
    if (size) memcpy(frames, data, size);
    decode_frames(frames, size, channels, bits, max_blocksize, 0, &o, block, &found);
    if (found < 0 || found > o.count) abort();
    free(frames), free(o.data), free(block);
}

static void fuzz_rows(const uint8_t *data, size_t size, const uint8_t *choice) {
    static const int sizes[4] = {1, 2, 4, 8};
    Rows r = {0};
    r.itemsize = sizes[choice[1] % 4], r.is_signed = choice[1] >> 2 & 1, r.predictor = choice[1] >> 3 & 3;
    r.planes = choice[2] % 3 + 1, r.width = choice[3] % 40 + 1;
    int64_t row = r.planes * r.width * r.itemsize;
    r.height = (int64_t)size / row;
    if (r.height < 1) return;
    r.row_stride = r.width * r.itemsize, r.plane_stride = r.height * r.row_stride;
    size_t nbytes = (size_t)(r.height * row);
    uint8_t *residual = malloc(nbytes), *again = malloc(nbytes);
    memcpy(residual, data, nbytes);
    r.values = malloc(nbytes);
    undo_rows(&r, residual);
    predict_rows(&r, NULL, again);
    if (memcmp(residual, again, nbytes)) abort(); /* prediction and its inverse */
    free(residual), free(again), free(r.values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 6) return 0;
    if (data[0] < 224) fuzz_frames(data + 6, size - 6, data);
    else fuzz_rows(data + 6, size - 6, data);
    return 0;
}
