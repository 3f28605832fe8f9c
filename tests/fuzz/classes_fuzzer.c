/* libFuzzer's entry to the C extension that codes maps of classes.
 *
 * Built by `python -m tests.fuzz.native`. EXTENSION is the source up to what Python calls.
 * Three bytes in front choose the map's size; then follows what is decoded. What comes
 * out is encoded and must decode to the same.
 */
#include EXTENSION

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const uint8_t *data, size_t size, uint8_t *map, int64_t planes, int64_t height, int64_t width, int bits) {
    Coder k = {0};
    Piece *pieces = malloc((size_t)(width / PIECE + 1) * sizeof(Piece));
    if (!pieces || !start_coder(&k, bits)) abort();
    k.next = data, k.end = data + size;
    decode_planes(&k, map, planes, height, width, bits, pieces);
    free(pieces), free(k.states);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3) return 0;
    int bits = (data[0] & 7) + 1;
    int64_t planes = (data[0] >> 3 & 3) + 1, height = data[1] % 40 + 1, width = data[2] % 90 + 1;
    size_t n = (size_t)(planes * height * width);
    /* Copies of the exact size, so that one byte too far is seen. */
    uint8_t *bytes = malloc(size - 3 ? size - 3 : 1), *map = malloc(n), *again = malloc(n);
    memcpy(bytes, data + 3, size - 3);
    memset(map, 0xAA, n), memset(again, 0x55, n);
    decode(bytes, size - 3, map, planes, height, width, bits);
    for (size_t i = 0; i < n; i++) if (map[i] >> bits) abort();
    Coder k = {0};
    Piece *pieces = malloc((size_t)(width / PIECE + 1) * sizeof(Piece));
    k.to = k.out = malloc(1 << 16);
    if (!pieces || !k.out || !start_coder(&k, bits)) abort();
    k.limit = k.out + (1 << 16);
    encode_planes(&k, map, planes, height, width, bits, pieces);
    decode(k.out, (size_t)(k.to - k.out), again, planes, height, width, bits);
    if (memcmp(map, again, n)) abort(); /* coder and decoder walk alike */
    free(pieces), free(k.states), free(k.out), free(bytes), free(map), free(again);
    return 0;
}
