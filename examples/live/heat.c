/* One-dimensional heat equation u_t = D u_xx on a periodic box of length 1, sent frame by frame to a live ensemble.
 *
 *   cc -O2 -o heat heat.c -lm
 *
 * A run is 64 points; its parameter is "diffusivity", its seed shifts the initial wave, and frames are 0.01 apart.
 * The protocol: docs/howto/live.md. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POINTS = 64, FRAME = 1, END = 3, FLOAT64 = 2 };

struct header { /* 96 bytes, as the compiler lays it out on any machine with little-endian numbers */
    char magic[4];
    uint16_t version, kind;
    uint64_t member;
    uint32_t attempt, step;
    uint8_t dtype, axes;
    uint16_t zero;
    uint32_t checksum;
    double seconds;
    uint64_t length, shape[6];
};

static uint32_t crc(uint32_t sum, const void *data, size_t size) { /* CRC-32 as in zlib, which is faster */
    sum = ~sum;
    for (const uint8_t *p = data; size--; p++) {
        sum ^= *p;
        for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320u : 0);
    }
    return ~sum;
}

static void record(FILE *out, struct header h, const double *u) {
    h.checksum = crc(crc(0, &h, sizeof h), u, h.length);
    if (fwrite(&h, sizeof h, 1, out) != 1 || fwrite(u, 1, h.length, out) != h.length || fflush(out)) exit(1);
}

static double number(const char *json, const char *name) { /* enough for flat JSON that names nothing twice */
    const char *found = strstr(json, name);
    if (!found) fprintf(stderr, "the member has no %s\n", name), exit(2);
    return strtod(strchr(found, ':') + 1, NULL);
}

int main(void) {
    char json[4096] = {0};
    if (!fread(json, 1, sizeof json - 1, stdin)) return 2;
    const char *frames = getenv("SLIPSTREAM_FRAMES");
    FILE *out = frames ? fopen(frames, "wb") : NULL;
    if (!out) return fprintf(stderr, "SLIPSTREAM_FRAMES names no file to write to\n"), 2;

    const double D = number(json, "\"diffusivity\""), dx = 1.0 / POINTS, interval = 0.01, pi = acos(-1.0);
    const int steps = (int)number(json, "\"steps\""), inner = (int)ceil(D * interval / (0.25 * dx * dx));
    const double phase = fmod(number(json, "\"seed\""), 100.0) / 100.0;
    struct header h = {{'S', 'L', 'I', 'P'}, 1, FRAME, 0, 0, 0, FLOAT64, 2, 0, 0, 0.0, POINTS * sizeof(double), {1, POINTS}};
    h.member = (uint64_t)number(json, "\"member\"");
    h.attempt = (uint32_t)number(json, "\"attempt\"");

    double u[POINTS], v[POINTS];
    for (int i = 0; i < POINTS; i++) u[i] = sin(2 * pi * (i * dx + phase));
    for (h.step = 0; (int)h.step < steps; h.step++) {
        record(out, h, u);
        for (int k = 0; k < inner; k++, memcpy(u, v, sizeof u))
            for (int i = 0; i < POINTS; i++)
                v[i] = u[i] + D * interval / inner / (dx * dx)
                            * (u[(i + 1) % POINTS] - 2 * u[i] + u[(i + POINTS - 1) % POINTS]);
    }
    struct header end = h;
    end.kind = END, end.step = 0, end.dtype = end.axes = 0, end.length = 0;
    memset(end.shape, 0, sizeof end.shape);
    record(out, end, u);
    return fclose(out) != 0;
}
