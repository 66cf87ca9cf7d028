import { describe, expect, it } from 'vitest';
import { runTool } from '../../../src/sync/process.js';

const node = process.execPath;

describe('runTool', () => {
  it('hands over arguments and input untouched, and collects what the tool says', async () => {
    const script = `
      console.log(JSON.stringify(process.argv.slice(1)));
      process.stdin.pipe(process.stdout);
      console.error('one'); console.error('two');
      process.exitCode = 3;`;
    const args = ['-e', script, '--', '$(id)', '; ls', '-x', 'a\nb'];
    const result = await runTool({ tool: node, args, input: 'in\0put' });
    expect(result).toEqual({
      status: 3,
      killedBy: null,
      output: `${JSON.stringify(args.slice(3))}\nin\0put`,
      errorLines: ['one', 'two'],
    });
  });

  it('says how to install what is missing', async () => {
    const call = { tool: 'rclone', args: [], environment: { PATH: '/nonexistent' } };
    await expect(runTool(call)).rejects.toMatchObject({
      code: 'missing-tool',
      message: 'rclone is not installed; install it with: apt install rclone',
    });
  });

  it('keeps only the last complaints', async () => {
    const script = 'for (let i = 0; i < 5000; i++) console.error("line " + i)';
    const { errorLines } = await runTool({ tool: node, args: ['-e', script] });
    expect(errorLines.length).toBeLessThanOrEqual(40);
    expect(errorLines.at(-1)).toBe('line 4999');
  });

  it('survives a tool that does not read its input', async () => {
    const call = { tool: node, args: ['-e', 'process.exit(1)'], input: 'x'.repeat(1 << 20) };
    expect((await runTool(call)).status).toBe(1);
  });

  it('tells which signal ended the tool', async () => {
    const args = ['-e', 'process.kill(process.pid, "SIGKILL")'];
    expect(await runTool({ tool: node, args })).toMatchObject({
      status: null,
      killedBy: 'SIGKILL',
    });
  });

  it('ends the tool when aborted, and does not start it after that', async () => {
    const abort = new AbortController();
    const script = 'console.log("up"); setInterval(() => {}, 1000)';
    const call = {
      tool: node,
      args: ['-e', script],
      signal: abort.signal,
      onOutput: () => {
        abort.abort();
      },
    };
    await expect(runTool(call)).rejects.toMatchObject({ code: 'interrupted' });
    await expect(runTool(call)).rejects.toMatchObject({ code: 'interrupted' });
  });

  it('does not wait for a grandchild that keeps the error stream open', async () => {
    const script = `
      const { spawn } = require('node:child_process');
      spawn('sleep', ['8'], { stdio: ['ignore', 'ignore', 'inherit'], detached: true }).unref();`;
    const startMs = Date.now();
    expect((await runTool({ tool: node, args: ['-e', script] })).status).toBe(0);
    expect(Date.now() - startMs).toBeLessThan(5000);
  });
});
