#!/usr/bin/env node
/**
 * Where the program starts: a CommonJS file, because Node uses its thread pool to load an ES module,
 * and the pool's size is fixed at its first use. With the usual 4 threads, 4 fdatasyncs stall every read.
 */
process.env['UV_THREADPOOL_SIZE'] ??= '16';
void import('./main.js');
