/* SPDX-License-Identifier: MIT */
/*
 * The machine's limit for a merge: reads the inputs' shards and writes as many bytes as
 * the output has, with plain read and write calls and nothing between them.
 *
 *     copy_files WORK OUTPUT INPUT...         prints "seconds S"
 */
#include "kd/progress.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char block[1 << 20];

/* Calls visit for each shard of a directory; the sum of what it returns. */
static double each_shard(const char *directory, double (*visit)(const char *path))
{
    DIR *listing = opendir(directory);
    struct dirent *entry;
    double sum = 0;
    char path[4096];

    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (strstr(entry->d_name, ".h5") != NULL)
            sum += visit(path);
    }
    if (listing != NULL)
        closedir(listing);
    return sum;
}

static double file_bytes(const char *path)
{
    struct stat facts;

    return stat(path, &facts) == 0 ? (double)facts.st_size : 0;
}

static double read_file(const char *path)
{
    int fd = open(path, O_RDONLY);
    double bytes = 0;
    ssize_t n;

    while ((n = read(fd, block, sizeof block)) > 0)
        bytes += (double)n;
    close(fd);
    return bytes;
}

static void write_file(const char *path, double bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);

    for (; bytes > 0; bytes -= sizeof block)
        if (write(fd, block, sizeof block) < 0)
            perror(path);
    fsync(fd);
    close(fd);
    unlink(path);
}

int main(int argc, char **argv)
{
    char path[4096];
    double seconds, bytes;

    if (argc < 4) {
        fprintf(stderr, "usage: copy_files WORK OUTPUT INPUT...\n");
        return 64;
    }
    bytes = each_shard(argv[2], file_bytes);
    snprintf(path, sizeof path, "%s/copied", argv[1]);
    seconds = -kd_seconds();
    for (int i = 3; i < argc; i++)
        each_shard(argv[i], read_file);
    write_file(path, bytes);
    seconds += kd_seconds();
    printf("seconds %.4f\n", seconds);
    return 0;
}
