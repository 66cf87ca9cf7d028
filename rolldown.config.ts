/**
 * The program as two files and what they share: a command that loads each module by itself takes two
 * thirds more processor time to start. It is built from `src` beside the modules of `tsc`, in their folder of the
 * command line, so that paths relative to a module stay right; what npm installs is not bundled.
 */
import { defineConfig, type RolldownOptions } from 'rolldown';

const config: RolldownOptions = defineConfig({
  input: { main: 'src/cli/main.ts', 'work-thread': 'src/store/work-thread.ts' },
  platform: 'node',
  external: /^[^./]/,
  output: {
    dir: 'dist/cli',
    entryFileNames: '[name].js',
    chunkFileNames: 'shared.js',
    comments: false,
    sourcemap: true,
  },
});

export default config;
