import { describe, expect, it } from 'vitest';
import type { Session } from '../../../src/nbd/exports.js';
import {
  Command,
  CommandFlag,
  Errno,
  ExtentFlag,
  MAX_PAYLOAD_BYTES,
} from '../../../src/nbd/protocol.js';
import type { Request } from '../../../src/nbd/protocol.js';
import {
  MAX_STATUS_EXTENTS,
  checkRequest,
  performNow,
  queryStatus,
} from '../../../src/nbd/requests.js';
import { MemoryDevice } from '../../support/memory-device.js';

const SIZE = 2 ** 40;
const device = new MemoryDevice(SIZE);
const readOnlyDevice = new MemoryDevice(SIZE, { readOnly: true });
const full: Session = { device, structuredReplies: true, allocationContext: true };
const plain: Session = { device, structuredReplies: false, allocationContext: false };
const readOnly: Session = { ...full, device: readOnlyDevice };

function request(command: number, offset: number, bytes: number, flags = 0): Request {
  return { command, flags, offset, bytes, cookieHigh: 0, cookieLow: 0 };
}

describe('checkRequest', () => {
  const { fua, noHole, dontFragment, requestOne, fastZero } = CommandFlag;
  const everyFlag = [fua, noHole, dontFragment, requestOne, fastZero, 32, 1 << 15];

  it.each<[string, number, number[]]>([
    ['read', Command.read, [fua, dontFragment]],
    ['write', Command.write, [fua]],
    ['flush', Command.flush, [fua]],
    ['trim', Command.trim, [fua]],
    ['cache', Command.cache, [fua]],
    ['writeZeroes', Command.writeZeroes, [fua, noHole, fastZero]],
    ['blockStatus', Command.blockStatus, [fua, requestOne]],
  ])('%s takes its own flags and no others', (_name, command, allowed) => {
    const bytes = command === Command.flush ? 0 : 512;
    for (const flag of everyFlag) {
      const expected = allowed.includes(flag) ? Errno.none : Errno.invalid;
      expect([flag, checkRequest(request(command, 0, bytes, flag), full)]).toEqual([
        flag,
        expected,
      ]);
    }
  });

  it.each([
    ['read', Command.read, Errno.invalid],
    ['write', Command.write, Errno.noSpace],
    ['trim', Command.trim, Errno.invalid],
    ['cache', Command.cache, Errno.invalid],
    ['writeZeroes', Command.writeZeroes, Errno.noSpace],
    ['blockStatus', Command.blockStatus, Errno.invalid],
  ])('%s stays inside the disk', (_name, command, refusal) => {
    expect(checkRequest(request(command, SIZE - 1, 1), full)).toBe(Errno.none);
    expect(checkRequest(request(command, SIZE - 1, 2), full)).toBe(refusal);
    expect(checkRequest(request(command, SIZE, 1), full)).toBe(refusal);
    expect(checkRequest(request(command, 2 ** 64 - 1, 1), full)).toBe(refusal);
  });

  it('bounds payloads but not the ranges of requests without one', () => {
    const long = MAX_PAYLOAD_BYTES + 1;
    expect(checkRequest(request(Command.read, 0, MAX_PAYLOAD_BYTES), full)).toBe(Errno.none);
    expect(checkRequest(request(Command.read, 0, long), full)).toBe(Errno.overflow);
    expect(checkRequest(request(Command.read, 0, long), plain)).toBe(Errno.invalid);
    expect(checkRequest(request(Command.write, 0, long), full)).toBe(Errno.invalid);
    const whole = 2 ** 32 - 1;
    for (const command of [Command.trim, Command.writeZeroes, Command.cache, Command.blockStatus]) {
      expect(checkRequest(request(command, 0, whole), full)).toBe(Errno.none);
    }
  });

  it('lets nothing change a read-only disk', () => {
    for (const command of [Command.write, Command.trim, Command.writeZeroes]) {
      expect(checkRequest(request(command, 0, 512), readOnly)).toBe(Errno.notPermitted);
    }
    for (const command of [Command.read, Command.cache, Command.blockStatus]) {
      expect(checkRequest(request(command, 0, 512), readOnly)).toBe(Errno.none);
    }
    expect(checkRequest(request(Command.flush, 0, 0), readOnly)).toBe(Errno.none);
  });

  it('refuses what was not negotiated, what is unknown, and a flush with a range', () => {
    expect(checkRequest(request(Command.read, 0, 512, dontFragment), plain)).toBe(Errno.invalid);
    expect(checkRequest(request(Command.blockStatus, 0, 512), plain)).toBe(Errno.invalid);
    expect(checkRequest(request(Command.blockStatus, 0, 0), full)).toBe(Errno.invalid);
    expect(checkRequest(request(8, 0, 512), full)).toBe(Errno.invalid);
    expect(checkRequest(request(0xffff, 0, 512), full)).toBe(Errno.invalid);
    expect(checkRequest(request(Command.flush, 0, 512), full)).toBe(Errno.invalid);
    expect(checkRequest(request(Command.flush, 512, 0), full)).toBe(Errno.invalid);
  });

  it('follows a disk that grows', () => {
    const growing = new MemoryDevice(4096);
    const session = { ...full, device: growing };
    expect(checkRequest(request(Command.write, 4096, 512), session)).toBe(Errno.noSpace);
    growing.sizeBytes = 8192;
    expect(checkRequest(request(Command.write, 4096, 512), session)).toBe(Errno.none);
  });
});

describe('queryStatus', () => {
  const hole = ExtentFlag.hole | ExtentFlag.zero;

  function deviceOf(extents: { bytes: number; hole: boolean }[]): MemoryDevice {
    const odd = new MemoryDevice(SIZE);
    odd.extents = () => Promise.resolve(extents);
    return odd;
  }

  it('merges neighbours of one kind and stops at the end of the range', async () => {
    const odd = deviceOf([
      { bytes: 100, hole: true },
      { bytes: 50, hole: true },
      { bytes: 10, hole: false },
      { bytes: 1000, hole: true },
    ]);
    expect(await queryStatus(request(Command.blockStatus, 0, 200), odd)).toEqual([
      { bytes: 150, flags: hole },
      { bytes: 10, flags: 0 },
      { bytes: 40, flags: hole },
    ]);
  });

  it('gives one extent where one is asked for, and never more than its limit', async () => {
    const many = Array.from({ length: 5000 }, (_, index) => ({ bytes: 1, hole: index % 2 === 0 }));
    const one = request(Command.blockStatus, 0, 5000, CommandFlag.requestOne);
    expect(await queryStatus(one, deviceOf(many))).toEqual([{ bytes: 1, flags: hole }]);
    const all = await queryStatus(request(Command.blockStatus, 0, 5000), deviceOf(many));
    expect(all).toHaveLength(MAX_STATUS_EXTENTS);
  });

  it('fails, and sends no empty answer, when the device says nothing', async () => {
    const query = queryStatus(request(Command.blockStatus, 0, 10), deviceOf([]));
    await expect(query).rejects.toThrow('no extent');
  });
});

describe('performNow', () => {
  const asked: string[] = [];
  const quick = Object.assign(new MemoryDevice(SIZE), {
    readNow: (offset: number) => asked.push('read') > 0 && offset === 0,
    writeNow: (offset: number) => asked.push('write') > 0 && offset === 0,
  });
  const data = new Uint8Array(512);

  it.each([
    ['read', Command.read],
    ['write', Command.write],
  ])('leaves it to the device whether it can %s', (name, command) => {
    asked.length = 0;
    expect(performNow(request(command, 0, 512), quick, data)).toBe(true);
    expect(performNow(request(command, 512, 512), quick, data)).toBe(false);
    expect(asked).toEqual([name, name]);
    expect(performNow(request(command, 0, 512), device, data)).toBe(false);
  });

  it('is not for what has to be durable, for nothing, and for the other commands', () => {
    asked.length = 0;
    expect(performNow(request(Command.write, 0, 512, CommandFlag.fua), quick, data)).toBe(false);
    expect(performNow(request(Command.write, 0, 0), quick, data)).toBe(false);
    for (const command of [Command.flush, Command.trim, Command.writeZeroes, Command.cache]) {
      expect(performNow(request(command, 0, 512), quick, data)).toBe(false);
    }
    expect(asked).toEqual([]);
  });
});
