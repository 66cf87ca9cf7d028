/**
 * Bugs to plant: each takes one precaution out of the program, and names the tests of which at least one
 * must fail then. `npm run test:planted` plants each in a copy of the tree and runs them.
 *
 * `find` must occur exactly once in `file`; where the code has moved on, the list moves with it.
 */

const MODEL = ['test/unit/volume/snapshot-model.test.ts'];
const CRASH = ['test/unit/volume/crash.test.ts'];
const EACH_CALL = ['test/unit/volume/each-call.test.ts'];
const SWEEP = ['test/unit/volume/crash-sweep.test.ts'];
const DAMAGE = ['test/unit/volume/damage.test.ts'];
const VOLUME = ['test/unit/volume/volume.test.ts'];
const LIMITS = ['test/unit/volume/limits.test.ts'];
const ENGINES = ['test/unit/crypto/engines.test.ts'];
const REPAIR = ['test/unit/repair/rebuild.test.ts', 'test/unit/repair/repair.test.ts'];
const NBD = ['test/unit/nbd'];
const WRITE_NOW = ['test/unit/volume/write-now.test.ts'];
const RELOCATION = ['test/unit/volume/relocation.test.ts'];
const BACKGROUND = ['test/unit/volume/background.test.ts'];

/**
 * @typedef {object} PlantedBug
 * @property {string} name What is wrong now, as one would say it in a bug report.
 * @property {string} file
 * @property {string} find
 * @property {string} put
 * @property {readonly string[]} tests
 */

/** @type {readonly PlantedBug[]} */
export const PLANTED_BUGS = [
  // What is durable, and when.
  {
    name: 'flush does not fdatasync',
    file: 'src/store/group-writer.ts',
    find: 'await settleAll(members.map((member) => this.files[member]!.sync()));',
    put: 'await Promise.resolve();',
    tests: SWEEP,
  },
  {
    name: 'a failed fdatasync is tried again',
    file: 'src/store/group-writer.ts',
    find: `    } catch (error) {
      this.failure ??= error;
      throw error;
    }
  }

  private throwFailure`,
    put: `    } catch (error) {
      for (const member of members) this.unsynced.add(member);
      await settleAll(members.map((member) => this.files[member]!.sync()));
      void error;
    }
  }

  private throwFailure`,
    tests: CRASH,
  },
  {
    name: 'the buffer of a row serves another one while its bytes are on their way',
    file: 'src/store/group-writer.ts',
    find: 'if (!row.hasParity || row.writes.size > 0 || pendingBytes(row) > 0) return;',
    put: 'if (!row.hasParity || pendingBytes(row) > 0) return;',
    tests: CRASH,
  },
  {
    name: 'the buffers of a group that is over serve nobody',
    file: 'src/store/group-writer.ts',
    find: '    this.codecs.giveBack(row.codec);\n',
    put: '',
    tests: ['test/unit/store/row-codecs.test.ts'],
  },
  {
    name: 'what an earlier group has left in a buffer goes into the parity of the next',
    file: 'src/store/group-writer.ts',
    find: 'if (filled < unitBytes) row.codec.unit(member).fill(0, filled);',
    put: '',
    tests: ['test/unit/store/row-codecs.test.ts'],
  },
  {
    name: 'data are written before another thread has encrypted them',
    file: 'src/store/group-writer.ts',
    find: '      if (sealing) await sealing;\n',
    put: '',
    tests: CRASH,
  },
  {
    name: 'a write is done although an earlier one has failed',
    file: 'src/store/group-writer.ts',
    find: "if (earlier.some(({ status }) => status === 'rejected')) await this.write();",
    put: 'void earlier;',
    tests: ['test/unit/store/overlapping-writes.test.ts'],
  },
  {
    name: 'of two writes that have failed only the later is tried again',
    file: 'src/store/group-writer.ts',
    find: 'row.written[member] = Math.min(from, row.written[member]!);',
    put: 'row.written[member] = from;',
    tests: ['test/unit/store/overlapping-writes.test.ts'],
  },
  {
    name: 'what has failed is not tried again when room is needed',
    file: 'src/store/group-writer.ts',
    find: 'if (this.unwrittenBytes > limitBytes) await this.writeAll();',
    put: '',
    tests: ['test/unit/store/overlapping-writes.test.ts'],
  },
  {
    name: 'any number of rows is on its way to the files',
    file: 'src/store/group-writer.ts',
    find: 'if (!row.parity) await this.untilFewUnderWay();',
    put: '',
    tests: ['test/unit/store/overlapping-writes.test.ts'],
  },
  {
    name: 'a group is sealed before its parity is written',
    file: 'src/store/seal.ts',
    find: 'await writer.writeAll();',
    put: 'await writer.write();',
    tests: CRASH,
  },
  {
    name: 'parity counts although that of an earlier row is still to come',
    file: 'src/store/group-writer.ts',
    find: 'this.rows[0]?.row ?? row.row + 1',
    put: 'row.row + 1',
    tests: ['test/unit/store/late-parity.test.ts'],
  },
  {
    name: 'what another thread could not decrypt is handed out',
    file: 'src/store/slot-reader.ts',
    find: 'return isZero(await opened);',
    put: 'await opened; return true;',
    tests: ['test/unit/volume/read-now.test.ts'],
  },
  {
    name: 'a failed write is forgotten',
    file: 'src/store/group-writer.ts',
    find: '} else this.failure ??= error;',
    put: '}',
    tests: CRASH,
  },
  {
    name: 'a direct write that the system refused is taken for done',
    file: 'src/base/direct-write.ts',
    find: `      this.refused = true;
      return 0;`,
    put: `      this.refused = true;
      return bytes.length;`,
    tests: ['test/unit/base/direct-write.test.ts'],
  },
  {
    name: 'files run ahead of the log after flushes that had nothing to do',
    file: 'src/store/group-writer.ts',
    find: 'if (this.roundBytes > 0) this.runsAhead',
    put: 'this.runsAhead',
    tests: ['test/unit/store/run-ahead.test.ts'],
  },
  {
    name: 'a new group is not made durable before it gets its name',
    file: 'src/store/birth.ts',
    find: 'await settleAll(files.map((file) => file.sync()));',
    put: '',
    tests: SWEEP,
  },
  {
    name: 'names of a new group reach the disk in any order',
    file: 'src/store/birth.ts',
    find: `  await settleAll(files.map((file) => file.sync()));
  await context.files.syncFolder(chunkFolder(context));`,
    put: '  await settleAll(files.map((file) => file.sync()));',
    tests: SWEEP,
  },
  {
    name: 'the folder is not synced when a group has got its names',
    file: 'src/store/birth.ts',
    find: `    await context.files.rename(path, group.paths[member]!);
  }
  await context.files.syncFolder(chunkFolder(context));`,
    put: `    await context.files.rename(path, group.paths[member]!);
  }`,
    tests: SWEEP,
  },
  {
    name: 'an empty group is removed file by file under its open names',
    file: 'src/store/birth.ts',
    find: 'if (path !== unborn[index] && (await files.stat(path))) {',
    put: 'if (path !== unborn[index] && (await files.stat(path))) { unborn[index] = path; continue;',
    tests: [...SWEEP, ...CRASH],
  },
  {
    name: 'a seal does not make its footers durable',
    file: 'src/store/seal.ts',
    find: 'await settleAll(files.map((file) => file.sync()));',
    put: '',
    tests: SWEEP,
  },
  {
    name: 'a small file is published before it is durable',
    file: 'src/store/publish.ts',
    find: 'await file.sync();',
    put: '',
    tests: SWEEP,
  },
  {
    name: 'the folder is not synced when a small file was published',
    file: 'src/store/publish.ts',
    find: 'await files.syncFolder(folder);',
    put: '',
    tests: ['test/unit/store/key-change.test.ts', ...SWEEP],
  },
  {
    name: 'old key files go before the new one is there',
    file: 'src/store/key-files.ts',
    find: '  await publishFile(files, keyFolder({ folder }), name, bytes).catch(',
    put: `  for (const old of earlier) await files.remove(\`\${keyFolder({ folder })}/\${old}\`);
  await publishFile(files, keyFolder({ folder }), name, bytes).catch(`,
    tests: ['test/unit/store/key-change.test.ts'],
  },
  {
    name: 'FUA is taken for an ordinary write',
    file: 'src/volume/volume.ts',
    find: `    this.parts.end.parts.counters.writtenBytes += bytes.length;
    if (options?.durable) await this.flush();`,
    put: '    this.parts.end.parts.counters.writtenBytes += bytes.length;\n    void options;',
    tests: SWEEP,
  },
  {
    name: 'a flush does not wait for what was staged',
    file: 'src/volume/write-path.ts',
    find: `    const last = await this.lock.run(async () => {
      await this.commitAll();`,
    put: '    const last = await this.lock.run(async () => {\n      await Promise.resolve();',
    tests: SWEEP,
  },
  {
    name: 'an fdatasync counts for what was appended while it ran',
    file: 'src/volume/log-end.ts',
    find: `    if (this.replacements !== replacements) return false;
    this.advance(point);`,
    put: `    if (this.replacements !== replacements) return false;
    void point;
    this.advance(this.point);`,
    tests: [...SWEEP, ...CRASH],
  },
  {
    name: 'an fdatasync of a group that was given up meanwhile counts',
    file: 'src/volume/log-end.ts',
    find: 'if (this.replacements !== replacements) return false;',
    put: '',
    tests: ['test/unit/volume/log-end.test.ts'],
  },
  {
    name: 'what a failed group held is not written again',
    file: 'src/volume/log-end.ts',
    find: 'for (const entry of this.retained) {',
    put: 'for (const entry of this.retained.slice(0, 0)) {',
    tests: CRASH,
  },
  {
    name: 'a root is published before its chunk files',
    file: 'src/volume/checkpoint.ts',
    find: '    let failure = await sealOrCut(',
    put: `    if (closing) await this.publish(closing);
    let failure = await sealOrCut(`,
    tests: SWEEP,
  },
  {
    name: 'a checkpoint publishes a root that is not durable yet',
    file: 'src/volume/checkpoint.ts',
    find: `    if (nodes.length > 0) await this.appendNodes(await this.end.writerOrNew(), nodes);
    await this.end.makeDurable();`,
    put: '    if (nodes.length > 0) await this.appendNodes(await this.end.writerOrNew(), nodes);',
    tests: [...LIMITS, ...SWEEP],
  },
  {
    name: 'map nodes of a failed checkpoint count as written',
    file: 'src/volume/checkpoint.ts',
    find: 'if (this.end.replacements !== replacements) return false;',
    put: '',
    tests: LIMITS,
  },
  // Recovery.
  {
    name: 'recovery follows the abandoned one of two successors',
    file: 'src/volume/recovery.ts',
    find: 'candidates.sort((a, b) => b.header.ordinal - a.header.ordinal);',
    put: 'candidates.sort((a, b) => a.header.ordinal - b.header.ordinal);',
    tests: [...SWEEP, ...CRASH],
  },
  {
    name: 'recovery reads beyond the cut that a successor names',
    file: 'src/volume/recovery.ts',
    find: 'const limit = successor?.header.predecessor.cut ?? group.end;',
    put: 'const limit = successor ? Infinity : group.end;',
    tests: [...SWEEP, ...CRASH],
  },
  {
    name: 'recovery says nothing of flushed commits that are missing',
    file: 'src/volume/recovery.ts',
    find: 'if (!this.isLossy) return;',
    put: 'if (this.durableUpTo >= 0) return;',
    tests: DAMAGE,
  },
  {
    name: 'recovery does not look behind a torn end for what was flushed',
    file: 'src/volume/commit-reader.ts',
    find: 'if (header) highest = Math.max(highest, header.durableUpTo);',
    put: '',
    tests: DAMAGE,
  },
  {
    name: 'recovery does not see that a file of an open group is missing',
    file: 'src/volume/recovery.ts',
    find: 'if (await this.context.files.stat(path)) continue;',
    put: 'if (path !== "") continue;',
    tests: DAMAGE,
  },
  {
    name: 'two histories in one folder are taken for one',
    file: 'src/volume/recovery.ts',
    find: 'if (foreign) {',
    put: 'if (foreign && candidates.length > 99) {',
    tests: ['test/unit/volume/forks.test.ts'],
  },
  {
    name: 'the recovered end is not made durable',
    file: 'src/volume/open.ts',
    find: '        await file.sync();\n',
    put: '',
    tests: [...SWEEP, ...CRASH],
  },
  {
    name: 'the recovered end is synced, and not written again',
    file: 'src/volume/open.ts',
    find: '        await rewrite(file, start, bytes).catch(unlessFull);\n',
    put: '',
    tests: CRASH,
  },
  {
    name: 'a commit counts without its slots',
    file: 'src/volume/commit-reader.ts',
    find: 'return failed.every((flag) => flag === 0);',
    put: 'return failed.length > 0;',
    tests: SWEEP,
  },
  {
    name: 'a commit may follow any other',
    file: 'src/volume/commit-reader.ts',
    find: 'if (!equalBytes(header.previousChain, point.chain)) return null;',
    put: '',
    tests: ['test/unit/volume/forks.test.ts'],
  },
  {
    name: 'a commit gets memory for as many slots as it claims',
    file: 'src/volume/commit-reader.ts',
    find: 'if (header.slotCount * Math.min(NODE_BYTES, this.blockBytes) > capacity) return null;',
    put: '',
    tests: ['test/unit/volume/forged.test.ts'],
  },
  {
    name: 'a group sealed by another keeps its seal id',
    file: 'src/store/takeover.ts',
    find: 'setSealId(context, group, context.random.bytes(16));',
    put: '',
    tests: [...SWEEP, ...DAMAGE],
  },
  {
    name: 'a decided seal is not finished',
    file: 'src/store/finish-seals.ts',
    find: 'await context.files.rename(file.path, final[place]!);',
    put: '',
    tests: SWEEP,
  },
  // Keys and nonces.
  {
    name: 'the salt of a commit is a constant',
    file: 'src/volume/log.ts',
    find: 'return sha256(this.context.random.bytes(32)).slice(0, SALT_BYTES);',
    put: 'return sha256(new Uint8Array(this.context.random.bytes(32).length)).slice(0, SALT_BYTES);',
    tests: ['test/unit/volume/clones.test.ts'],
  },
  {
    name: 'a group that failed is written again under the same ids',
    file: 'src/store/birth.ts',
    find: `    id: context.random.bytes(16),
    sealId: context.random.bytes(16),`,
    put: `    id: new Uint8Array(16).fill(plan.firstSequence),
    sealId: context.random.bytes(16),`,
    tests: [...SWEEP, ...CRASH],
  },
  {
    name: 'padding shows what a buffer held before',
    file: 'src/store/group-writer.ts',
    find: '      gap.fill(0);\n',
    put: '',
    tests: CRASH,
  },
  {
    name: 'the session of a volume is always the same',
    file: 'src/volume/roots.ts',
    find: 'this.session = context.random.bytes(16);',
    put: 'this.session = new Uint8Array(16).fill(1);',
    tests: ['test/unit/volume/forks.test.ts'],
  },
  // Authenticity.
  {
    name: 'the node engine takes slots whose tag does not match',
    file: 'src/crypto/engine-node.ts',
    find: `      return unverified;
    } catch {
      return null;
    }`,
    put: `      return unverified;
    } catch {
      return unverified;
    }`,
    tests: ENGINES,
  },
  {
    name: 'the kind of a slot is not bound to it',
    file: 'src/crypto/engine.ts',
    find: 'this.view.setUint16(AAD_AT, kind, true);',
    put: 'void kind;',
    tests: ENGINES,
  },
  {
    name: 'a key slot may belong to two passphrases',
    file: 'src/crypto/key-slot.ts',
    find: 'if (!equalBytes(commitment, slot.commitment)) return null;',
    put: '',
    tests: ['test/unit/crypto/key-slot.test.ts'],
  },
  {
    name: 'Argon2 takes any parameters',
    file: 'src/crypto/key-slot.ts',
    find: '  checkParameters(slot);\n',
    put: '',
    tests: ['test/unit/crypto/key-slot.test.ts'],
  },
  {
    name: 'the key file is not authenticated as a whole',
    file: 'src/store/key-files.ts',
    find: 'if (!isGenuine(candidate, keys)) continue;',
    put: '',
    tests: ['test/unit/store/key-files.test.ts'],
  },
  {
    name: 'the inner part of a root goes with any outer part',
    file: 'src/format/root.ts',
    find: 'equalBytes(reader.fixed(32), sha256(outerPlain))',
    put: 'reader.fixed(32).length === sha256(outerPlain).length',
    tests: ['test/unit/store/root-parts.test.ts'],
  },
  {
    name: 'a root counts under any name',
    file: 'src/store/root-files.ts',
    find: 'if (root && rootName(context.keys.maintenance, root.session, bytes) === name) {',
    put: 'if (root) {',
    tests: ['test/unit/store/root-parts.test.ts'],
  },
  {
    name: 'a header counts in any file',
    file: 'src/store/chunk-meta.ts',
    find: 'return equalBytes(id, headerId(keys, header.groupId, header.place)) ? header : null;',
    put: 'return header;',
    tests: ['test/unit/store/root-parts.test.ts'],
  },
  {
    name: 'a manifest counts although the root names another',
    file: 'src/store/member-check.ts',
    find: 'if (digest && !equalBytes(sha256(bytes), digest)) return null;',
    put: '',
    tests: ['test/unit/store/root-parts.test.ts'],
  },
  {
    name: 'a unit is sound whatever its MAC',
    file: 'src/store/member-check.ts',
    find: 'return !!wanted && !!got && equalBytes(wanted, got);',
    put: 'return !!wanted && !!got;',
    tests: REPAIR,
  },
  {
    name: 'MAC lists are not held against the manifest',
    file: 'src/store/member-check.ts',
    find: 'equalBytes(memberDigest(macs), manifest.digests[place]!)',
    put: 'memberDigest(macs).length === manifest.digests[place]!.length',
    tests: REPAIR,
  },
  // Reed-Solomon, and what is rebuilt with it.
  {
    name: 'parity ends a word early',
    file: 'src/store/parity.ts',
    find: 'codec.encode(unitStart(row), longest);',
    put: 'codec.encode(unitStart(row), Math.max(unitStart(row), longest - 8));',
    tests: [...DAMAGE, ...REPAIR],
  },
  {
    name: 'the parity matrix is off by one',
    file: 'src/erasure/matrix.ts',
    find: 'const bottom = vandermonde(dataUnits, parityUnits, dataUnits);',
    put: 'const bottom = vandermonde(dataUnits + 1, parityUnits, dataUnits);',
    tests: ['test/unit/erasure/matrix.test.ts'],
  },
  {
    name: 'parity counts what an earlier row left in the buffer',
    file: 'src/store/group-writer.ts',
    find: '    this.zeroRest(row);\n',
    put: '',
    tests: [...VOLUME, ...DAMAGE],
  },
  {
    name: 'a reconstructed range is not checked',
    file: 'src/store/reconstruct.ts',
    find: 'if (verify(candidate)) return candidate;',
    put: 'verify(candidate);\n      return candidate;',
    tests: ['test/unit/store/wide-groups.test.ts', ...DAMAGE],
  },
  {
    name: 'a short read is taken for a whole one',
    file: 'src/store/member-reader.ts',
    find: 'if (got !== null) return got === into.length;',
    put: 'if (got !== null) return true;',
    tests: ['test/unit/store/member-reader.test.ts'],
  },
  {
    name: 'healed bytes go into any file of that name',
    file: 'src/store/slot-reader.ts',
    find: 'if (!isHeaderOf(header, group, member)) return false;',
    put: 'void [isHeaderOf, header];',
    tests: ['test/unit/repair/poisoned.test.ts', ...DAMAGE],
  },
  {
    name: 'repair trusts what it read before for what it reads now',
    file: 'src/repair/row-source.ts',
    find: 'return got === part.length && equalBytes(this.mac(place, row, bytes), wanted);',
    put: 'return got === part.length;',
    tests: REPAIR,
  },
  // The disk in memory.
  {
    name: 'a write may overtake an earlier hole',
    file: 'src/volume/staging.ts',
    find: 'this.oldestBlocks(this.holes.size > 0 ? 0 : maxBlocks)',
    put: 'this.oldestBlocks(maxBlocks)',
    tests: ['test/unit/volume/staging.test.ts'],
  },
  {
    name: 'writes of the same block do not wait for one another',
    file: 'src/volume/block-locks.ts',
    find: 'if (earlier.length > 0) await Promise.all(earlier);',
    put: '',
    tests: ['test/unit/volume/linearizable.test.ts'],
  },
  {
    name: 'a flushed block is forgotten although it was written again since',
    file: 'src/volume/staging.ts',
    find: 'if (this.current.get(block) === slot) this.current.delete(block);',
    put: 'this.current.delete(block);',
    tests: ['test/unit/volume/linearizable.test.ts', ...CRASH],
  },
  {
    name: 'a block is free before it is durable',
    file: 'src/volume/staging.ts',
    find: '  applied(): void {\n',
    put: '  applied(): void {\n    if (this.cutting) this.release(this.cutting);\n',
    tests: CRASH,
  },
  {
    name: 'a map node that was read while it was removed is kept',
    file: 'src/volume/block-map.ts',
    find: '    if (removals !== this.removals) return undefined;\n',
    put: '',
    tests: ['test/unit/volume/block-map.test.ts', ...LIMITS],
  },
  {
    name: 'parents are written before their children',
    file: 'src/volume/block-map.ts',
    find: 'dirty.sort((a, b) => a.level - b.level || a.index - b.index);',
    put: 'dirty.sort((a, b) => b.level - a.level || a.index - b.index);',
    tests: SWEEP,
  },
  {
    name: 'a map node is changed while one above it is not in memory',
    file: 'src/volume/block-map.ts',
    find: 'if (!this.hasPath(leaf)) missing.push(leaf);',
    put: 'if (!this.nodes.has(leaf)) missing.push(leaf);',
    tests: ['test/unit/volume/block-map.test.ts', ...LIMITS],
  },
  {
    name: 'changed map nodes are evicted',
    file: 'src/volume/block-map.ts',
    find: '      if (node.dirty) continue;\n',
    put: '',
    tests: LIMITS,
  },
  {
    name: 'a full disk is found out after the acknowledgement',
    file: 'src/volume/space.ts',
    find: 'if (this.freeBytes < bytes + MIN_FREE_BYTES) {',
    put: 'if (this.freeBytes < 0) {',
    tests: CRASH,
  },
  {
    name: 'the newest closed roots are pruned',
    file: 'src/volume/roots.ts',
    find: '...closed.slice(0, KEPT_CLOSED_ROOTS)',
    put: '...closed.slice(0, 0)',
    tests: ['test/unit/volume/roots.test.ts', ...DAMAGE],
  },
  // NBD.
  {
    name: 'a request may reach beyond the disk',
    file: 'src/nbd/requests.ts',
    find: 'if (request.offset + request.bytes > session.device.sizeBytes) {',
    put: 'if (request.offset > session.device.sizeBytes) {',
    tests: NBD,
  },
  {
    name: 'a read-only export takes writes',
    file: 'src/nbd/requests.ts',
    find: 'if (changes && session.device.readOnly) return Errno.notPermitted;',
    put: '',
    tests: NBD,
  },
  {
    name: 'a payload may have any length',
    file: 'src/nbd/requests.ts',
    find: 'if (carriesPayload(request.command) && request.bytes > MAX_PAYLOAD_BYTES) {',
    put: 'if (carriesPayload(request.command) && request.bytes > 2 ** 32) {',
    tests: NBD,
  },
  {
    name: 'a thousand clients get a thousand times the memory of one',
    file: 'src/nbd/transmission.ts',
    find: 'this.link.account.take(bufferBytes, this.#retry);',
    put: 'bufferBytes >= 0;',
    tests: ['test/unit/nbd/grammar.test.ts'],
  },
  {
    name: 'who stands still keeps its memory',
    file: 'src/nbd/memory-budget.ts',
    find: 'for (const account of [...this.#accounts]) account.cutOffIfStalled();',
    put: '',
    tests: ['test/unit/nbd/grammar.test.ts'],
  },
  {
    name: 'FUA does not reach the disk',
    file: 'src/nbd/requests.ts',
    find: 'const options = (request.flags & CommandFlag.fua) !== 0 ? DURABLE : VOLATILE;',
    put: 'const options = (request.flags & CommandFlag.fua) !== 0 ? VOLATILE : VOLATILE;',
    tests: NBD,
  },
  {
    name: 'a flush is acknowledged and not done',
    file: 'src/nbd/requests.ts',
    find: 'if (request.command === Command.flush) return device.flush();',
    put: 'if (request.command === Command.flush) return;',
    tests: NBD,
  },
  // Sync.
  {
    name: 'the root is copied before the chunk files',
    file: 'src/sync/run.ts',
    find: `    await this.copyFiles(work);
    const after = await this.publishRoot(work, before);`,
    put: `    const after = await this.publishRoot(work, before);
    await this.copyFiles(work);`,
    tests: ['test/unit/sync/interruption.test.ts', 'test/unit/sync/run.test.ts'],
  },
  {
    name: 'the root is not read back',
    file: 'src/sync/run.ts',
    find: 'isRoot ? equalBytes(found, head.bytes) : isOwnKeyFile(this.context, file, found);',
    put: 'isRoot || isOwnKeyFile(this.context, file, found);',
    tests: ['test/unit/sync/run.test.ts'],
  },
  {
    name: 'a remote that went back in time is not refused',
    file: 'src/sync/run.ts',
    find: 'refuseRollback(url, roots, seenGeneration, () => advice);',
    put: 'void [refuseRollback, url, roots, seenGeneration, advice];',
    tests: ['test/unit/sync/run.test.ts'],
  },
  {
    name: 'a fork is not looked for again before the root goes out',
    file: 'src/sync/run.ts',
    find: `    const latest = await this.survey();
    this.refuseOthers(latest, head.root);`,
    put: '    const latest = await this.survey();',
    tests: ['test/unit/sync/run.test.ts'],
  },
  {
    name: 'what the volume came out of is looked for in its folder',
    file: 'src/sync/run.ts',
    find: '    this.refuseOthers(before, this.source.origin());',
    put: `    const [newest] = (await readRoots(this.context)).roots;
    if (newest) this.refuseOthers(before, newest.root);`,
    tests: EACH_CALL,
  },
  {
    name: 'a restore counts as whole before its roots are there',
    file: 'src/sync/restore.ts',
    find: `  await install(context, remote, choice, roots, keyFiles);
  await finishTarget(context);`,
    put: `  await finishTarget(context);
  await install(context, remote, choice, roots, keyFiles);`,
    tests: EACH_CALL,
  },
  {
    name: 'a copy with more losses than parity replaces is made',
    file: 'src/sync/run.ts',
    find: '    refuseLoss(this.remote.url, plan);\n',
    put: '',
    tests: ['test/unit/sync/run.test.ts'],
  },

  // Snapshots and garbage
  {
    name: 'a block is moved although it stands elsewhere by now',
    file: 'src/volume/block-map.ts',
    find: `    if (entry?.ordinal !== oldOrdinal || entry.position !== oldPosition) return;
`,
    put: '',
    tests: MODEL,
  },
  {
    name: 'the collector retires a group too many',
    file: 'src/volume/collector.ts',
    find: '!liveness.live.has(ordinal)',
    put: '(liveness.live.get(ordinal) ?? 0) <= 70_000',
    tests: MODEL,
  },
  {
    name: 'what was moved for snapshots alone counts as dead in the open group',
    file: 'src/volume/frozen.ts',
    find: 'new Map(groups.all().map(',
    put: 'new Map(groups.sealedBefore(ordinal).map(',
    tests: ['test/unit/volume/snapshots.test.ts'],
  },
  {
    name: 'a write at once does not ask the collector',
    file: 'src/volume/write-path.ts',
    find: 'return this.pace?.admitNow(blocks * this.staging.blockBytes) ?? true;',
    put: 'return true;',
    tests: WRITE_NOW,
  },
  {
    name: 'a write at once does not look whether there is space',
    file: 'src/volume/write-path.ts',
    find: 'if (!space.hasRoomNow(this.pendingBytes(blocks), counters.loggedBytes)) return false;',
    put: 'void [space, counters];',
    tests: WRITE_NOW,
  },
  {
    name: 'a write at once is taken by a volume that has failed',
    file: 'src/volume/write-path.ts',
    find: 'if (this.end.hasFailed || this.staging.room < blocks) return false;',
    put: 'if (this.staging.room < blocks) return false;',
    tests: WRITE_NOW,
  },
  {
    name: 'a write at once goes ahead of one that is changing a part of its block',
    file: 'src/volume/volume.ts',
    find: 'if (!this.locks.isFree(first, first + count)) return false;',
    put: '',
    tests: WRITE_NOW,
  },
  {
    name: 'a commit waits for more than it may take of a small group',
    file: 'src/volume/write-path.ts',
    find: 'this.targetBytes = Math.min(atLeast, MAX_COMMIT_TARGET_BYTES);',
    put: 'this.targetBytes = Math.max(atLeast, MAX_COMMIT_TARGET_BYTES);',
    tests: WRITE_NOW,
  },
  {
    name: 'a write at once waits for others to be committed',
    file: 'src/volume/volume.ts',
    find: `each * blockBytes);
    this.parts.writePath.staged();`,
    put: 'each * blockBytes);',
    tests: WRITE_NOW,
  },
  {
    name: 'a read at once believes what it got in part',
    file: 'src/volume/reads.ts',
    find: 'return this.blocksNow(offset / blockBytes, into) * blockBytes === into.length;',
    put: 'return this.blocksNow(offset / blockBytes, into) * blockBytes <= into.length;',
    tests: ['test/unit/volume/read-now.test.ts'],
  },
  {
    name: 'a write that has to be durable is answered before it is',
    file: 'src/nbd/requests.ts',
    find: 'if (bytes === 0 || (flags & CommandFlag.fua) !== 0) return false;',
    put: 'if (bytes === 0) return flags > CommandFlag.fua;',
    tests: NBD,
  },
  {
    name: 'writers do not wait for the collector',
    file: 'src/volume/pace.ts',
    find: 'if (burst > 1) return false;',
    put: 'if (burst < 0) return false;',
    tests: ['test/unit/volume/pace.test.ts'],
  },
  {
    name: 'a writer that is woken again and again waits without an end',
    file: 'src/volume/pace.ts',
    find: 'if (this.clock.monotonic() >= endMs) return;',
    put: 'if (endMs < 0) return;',
    tests: ['test/unit/volume/pace.test.ts'],
  },
  {
    name: 'writers wait for a collector that has nothing to do',
    file: 'src/volume/collector.ts',
    find: 'return !this.running && !this.isDue(this.parts.end.durable.ordinal) && !this.isTailBad();',
    put: 'return false;',
    tests: ['test/unit/volume/background.test.ts'],
  },
  {
    name: 'what is dead behind the last sealed group of the log stays there',
    file: 'src/volume/collector.ts',
    find: 'const { garbageBytes } = measureGarbage(this.sealed());',
    put: 'const garbageBytes = garbage.garbageBytes - (end.writer.group.end - end.writer.group.liveBytes);',
    tests: ['test/unit/volume/tail.test.ts'],
  },
  {
    name: 'who hears nothing of the collector writes as fast as it likes',
    file: 'src/volume/pace.ts',
    find: '!isWoken && this.trickles(bytes)',
    put: '!isWoken',
    tests: ['test/unit/volume/pace.test.ts'],
  },
  {
    name: 'what is gained while nobody writes takes writers beyond the bound later',
    file: 'src/volume/pace.ts',
    find: 'this.over ? Math.min(this.earned, room) : 0',
    put: 'this.over ? this.earned : 0',
    tests: ['test/unit/volume/pace.test.ts'],
  },
  {
    name: 'what is dead behind the end of the log is not made up for',
    file: 'src/volume/collector.ts',
    find: 'groups.all().filter((each) => !dead.has(each))',
    put: 'groups.all().filter((each) => !isDead(each))',
    tests: ['test/unit/volume/background.test.ts'],
  },
  {
    name: 'the collector does not see what is staged',
    file: 'src/volume/collector.ts',
    find: 'Math.max(excess, this.heldBy(garbage).bytes) : excess',
    put: 'excess : excess',
    tests: ['test/unit/volume/background.test.ts'],
  },
  {
    name: 'writers get all that the collector gains, however much is dead',
    file: 'src/volume/pace.ts',
    find: 'Math.min(1, Math.max(MIN_SHARE, 1 - bytes / marginBytes))',
    put: 'Math.min(1, MIN_SHARE + marginBytes)',
    tests: ['test/unit/volume/pace.test.ts'],
  },
  {
    name: 'a group is deleted that a root still needs',
    file: 'src/volume/retention.ts',
    find: 'return listed || root.tail.ordinal <= group.ordinal;',
    put: 'return false;',
    tests: MODEL,
  },
  {
    name: 'the maps of snapshots do not follow what was moved',
    file: 'src/volume/rewrite.ts',
    find: '    if (level === 0) this.followBlocks(words);',
    put: '    if (level === 0) void words;',
    tests: MODEL,
  },
  {
    name: 'a root whose file is lost gives its generation to another one',
    file: 'src/volume/recovery.ts',
    find: 'this.newest = found.root;',
    put: 'void found;',
    tests: DAMAGE,
  },
  {
    name: 'a walk of earlier maps retires groups that were sealed since',
    file: 'src/volume/collector.ts',
    find: 'const dead = [...frozen.sealed].filter(',
    put: 'const dead = this.sealed().filter(',
    tests: BACKGROUND,
  },
  {
    name: 'a walk goes by maps from the middle of a move',
    file: 'src/volume/relocation.ts',
    find: 'checkpointer.forgetAllBut(frozen);',
    put: 'void frozen;',
    tests: BACKGROUND,
  },
  {
    name: 'what a walk corrects is corrected again by the next walk of the same maps',
    file: 'src/volume/collector.ts',
    find: '      frozen.groups.set(group, live);\n',
    put: '',
    tests: BACKGROUND,
  },
  {
    name: 'what a walk corrects is corrected again by a walk of later maps',
    file: 'src/volume/collector.ts',
    find: 'if (isNew) checkpointer.forgetAllBut(frozen);',
    put: '',
    tests: BACKGROUND,
  },
  {
    name: 'a root that could not be read there once counts as none of ours for good',
    file: 'src/sync/survey.ts',
    find: '    if (root) index.roots.set(file.path, knownRoot(file, root));',
    put: `    const nothing = { generation: 0, sessions: 0, digest: '' };
    const none = { path: file.path, bytes: 0, closed: false, point: nothing };
    index.roots.set(file.path, root ? knownRoot(file, root) : none);`,
    tests: ['test/unit/sync/run.test.ts'],
  },
  {
    name: 'survivors are sealed while their parity waits for room',
    file: 'src/volume/survivors.ts',
    find: 'await this.end.withReserve(() => writer.writeAll());',
    put: 'void writer;',
    tests: ['test/unit/volume/survivors.test.ts'],
  },
  {
    name: 'parity that was refused before anybody waits for it is missed',
    file: 'src/store/group-writer.ts',
    find: '    if (refused) throw refused;\n',
    put: '',
    tests: ['test/unit/volume/survivors.test.ts'],
  },
  {
    name: 'groups are deleted although no closed root is there',
    file: 'src/volume/retention.ts',
    find: 'if (!this.roots.newestClosed) return done;',
    put: '',
    tests: ['test/unit/volume/retention.test.ts'],
  },
  {
    name: 'what is dead between slots is rebuilt',
    file: 'src/volume/relocation.ts',
    find: 'isZero(await this.parts.slots.readOrFail(run))',
    put: '(await this.tryRead(run))',
    tests: RELOCATION,
  },
  {
    name: 'a group is sealed although its parity could not be written',
    file: 'src/store/group-writer.ts',
    find: '    this.throwFailure();\n    if (refused) throw refused;\n',
    put: '    if (refused) throw refused;\n',
    tests: ['test/unit/store/late-parity.test.ts'],
  },
  {
    name: 'a collection reads slot by slot',
    file: 'src/volume/relocation.ts',
    find: 'if (address - end > MAX_GAP_BYTES) break;',
    put: 'break;',
    tests: RELOCATION,
  },
  {
    name: 'slots near one that is lost are not moved',
    file: 'src/volume/relocation.ts',
    find: 'else read.push(...(await this.readOneByOne(some, first, plain)));',
    put: '',
    tests: RELOCATION,
  },
  {
    name: 'what is read ahead takes the place of what is being moved',
    file: 'src/volume/relocation.ts',
    find: 'this.plains[this.turns++ % 2]!',
    put: 'this.plains[0]',
    tests: RELOCATION,
  },
  {
    name: 'a collection is over while it reads ahead',
    file: 'src/volume/relocation.ts',
    find: 'await this.ahead?.catch(() => undefined);',
    put: '',
    tests: RELOCATION,
  },
  {
    name: 'moves count although the commit that tells of them has failed',
    file: 'src/volume/relocation.ts',
    find: 'if (!(await end.makeDurable())) continue;',
    put: 'await end.makeDurable();',
    tests: EACH_CALL,
  },
  {
    name: 'what lies between the pieces of a commit is not looked at',
    file: 'src/volume/commit-reader.ts',
    find: '    if (!(await this.isPadded(group, after, at))) return null;\n    const record',
    put: '    const record',
    tests: ['test/unit/volume/commit-reader.test.ts'],
  },
  {
    name: 'recovery leaves commits behind the end that it has found',
    file: 'src/volume/open.ts',
    find: '        await cutOff(file, bytes);\n',
    put: '',
    tests: ['test/unit/volume/crash.test.ts'],
  },
  {
    name: 'a move is told to the log before its blocks are durable',
    file: 'src/volume/survivors.ts',
    find: `    await writer.sync();
`,
    put: '',
    tests: SWEEP,
  },
  {
    name: 'a group of survivors is taken for a successor of the log',
    file: 'src/volume/recovery.ts',
    find: `        header.survived === 0 &&
        equalBytes(header.predecessor.groupId, id) &&`,
    put: '        equalBytes(header.predecessor.groupId, id) &&',
    tests: ['test/unit/volume/survivors.test.ts'],
  },
  {
    name: 'a group of survivors is cut where a root saw it, not where moves say',
    file: 'src/volume/recovery.ts',
    find: "    if (group.state !== 'sealed') group.end = Math.max(group.end, end);\n",
    put: '',
    tests: SWEEP,
  },
  {
    name: 'moves count whose blocks are missing',
    file: 'src/volume/recovery.ts',
    find: 'if (group && (await this.reaches(group, entry))) {',
    put: 'if (group) {',
    tests: ['test/unit/volume/survivors.test.ts'],
  },
  {
    name: 'maps of snapshots are led to where another block went',
    file: 'src/volume/relocation.ts',
    find: 'this.places.positions[this.order[slot]!] = position;',
    put: 'this.places.positions[slot] = position;',
    tests: ['test/unit/volume/snapshots.test.ts'],
  },
  {
    name: 'what was gathered is not in order of positions',
    file: 'src/volume/gather.ts',
    find: 'keys.subarray(from, ends.get(ordinal)).sort();',
    put: 'void from;',
    tests: ['test/unit/volume/gather.test.ts'],
  },
  {
    name: 'what was gathered is in the order in which groups were met',
    file: 'src/volume/gather.ts',
    find: 'of [...counts.keys()].sort((a, b) => a - b)) {',
    put: 'of counts.keys()) {',
    tests: ['test/unit/volume/gather.test.ts'],
  },
  {
    name: 'maps of snapshots count although the group that they stand in has failed',
    file: 'src/volume/rewrite.ts',
    find: 'if (this.end.replacements === this.replacements) return;',
    put: 'if (this.end.replacements >= this.replacements) return;',
    tests: EACH_CALL,
  },
  {
    name: 'a map counts as settled although the group that it stands in has failed',
    file: 'src/volume/checkpoint.ts',
    find: 'attempt++) if (await this.writeNodes()) return;',
    put: 'attempt++) return void (await this.writeNodes());',
    tests: EACH_CALL,
  },
  {
    name: 'a snapshot is not written again when its group has failed',
    file: 'src/volume/log-end.ts',
    find: '    this.retained.push({ work, sequence, durable: false });',
    put: '    if (isBatch(work)) this.retained.push({ work, sequence, durable: false });',
    tests: EACH_CALL,
  },
  {
    name: 'a snapshot is acknowledged before it is durable',
    file: 'src/volume/snapshots.ts',
    find: `entries);
    await this.end.makeDurable();`,
    put: 'entries);',
    tests: SWEEP,
  },
  {
    name: 'a rollback keeps the disk without what was staged',
    file: 'src/volume/snapshots.ts',
    find: `    this.checkNew(keepAs);
    return this.writePath.settled(async () => {`,
    put: `    this.checkNew(keepAs);
    return this.writePath.exclusively(async () => {`,
    tests: SWEEP,
  },
  {
    name: 'a changed size names a map that is not in the log yet',
    file: 'src/volume/snapshots.ts',
    find: `      await this.checkpointer.settleMap();
      const pointer`,
    put: '      const pointer',
    tests: SWEEP,
  },
  {
    name: 'a snapshot names a map that is not in the log yet',
    file: 'src/volume/snapshots.ts',
    find: `    await this.checkpointer.settleMap();
    return {`,
    put: '    return {',
    tests: MODEL,
  },
  {
    name: 'a sync does not keep what it copies',
    file: 'src/volume/volume.ts',
    find: 'return { root, release: roots.pin(root) };',
    put: 'return { root, release: () => undefined };',
    tests: ['test/unit/volume/snapshots.test.ts'],
  },
  {
    name: 'a copy made by hand opens at a root that came later than its open files',
    file: 'src/volume/recovery.ts',
    find: "options.identity !== 'same' ? roots.filter(({ root }) => !root.closed) : []",
    put: 'roots.filter(() => false)',
    tests: ['test/unit/volume/hand-copies.test.ts'],
  },
  {
    name: 'a command under hold begins while files are open that will get other names',
    file: 'src/cli/volume-operations.ts',
    find: 'if (!volume.readOnly) await volume.sealNow();',
    put: '',
    tests: ['test/unit/cli/operations.test.ts'],
  },
  {
    name: 'a round that moves nothing is followed by one that goes by the same maps',
    file: 'src/volume/collector.ts',
    find: 'if (moved === 0) this.parts.checkpointer.forgetAllBut(null);',
    put: '',
    tests: ['test/unit/volume/background.test.ts'],
  },
  {
    name: 'moves in a copy made by hand are followed by the length of files',
    file: 'src/volume/recovery.ts',
    find: "(this.options.identity === 'same' || this.reader.holds(group, blocks, positions))",
    put: 'blocks.length <= positions.length',
    tests: ['test/unit/volume/survivors.test.ts'],
  },
  {
    name: 'a full disk ends the group that blocks are moved to',
    file: 'src/volume/survivors.ts',
    find: '    if (writer.failure === null) return;\n',
    put: '',
    tests: ['test/unit/volume/survivors.test.ts'],
  },
  {
    name: 'groups that failed wait for somebody to seal the volume',
    file: 'src/volume/collector.ts',
    find: '    this.parts.end.parts.cutGroups.retry();\n',
    put: '',
    tests: ['test/unit/volume/background.test.ts'],
  },
  {
    name: 'a root names what was moved and is not written yet',
    file: 'src/volume/survivors.ts',
    find: '    group.end = end;\n    if (writer.failure',
    put: '    if (writer.failure',
    tests: ['test/unit/volume/survivors.test.ts'],
  },
  {
    name: 'a group that was sealed since a root named it counts without its files',
    file: 'src/volume/recovery.ts',
    find: 'return (await isWhole(this.context, sealed)) ? sealed : null;',
    put: 'return sealed;',
    tests: ['test/unit/volume/recovery.test.ts'],
  },
  {
    name: 'an original on a device with another number is taken for a copy',
    file: 'src/volume/identity.ts',
    find: "stats.map((stat) => stat?.inode ?? '')",
    put: 'stats.map((stat) => `${stat?.device} ${stat?.inode}`)',
    tests: ['test/unit/volume/identity.test.ts'],
  },
  {
    name: 'an opening that fails leaves the seals that it began',
    file: 'src/volume/open.ts',
    find: '    await volume.close().catch(() => undefined);\n',
    put: '',
    tests: ['test/unit/volume/identity.test.ts'],
  },
  {
    name: 'what a loss cuts off is not kept',
    file: 'src/volume/open.ts',
    find: 'return await setTailAside(context, group);',
    put: 'return setTailAside === undefined;',
    tests: ['test/unit/volume/recovery.test.ts'],
  },
  {
    name: 'a key file opens the volume although a newer one has replaced it',
    file: 'src/store/key-files.ts',
    find: '    if (newer.some((each) => isGenuine(each, unlocked.keys))) break;\n',
    put: '    void newer;\n',
    tests: ['test/unit/store/key-files.test.ts'],
  },
  {
    name: 'a root that is copied does not know of a change of keys',
    file: 'src/volume/volume.ts',
    find: 'news.includes(true) ? writePath.renewRoot() : this.sealNow()',
    put: 'news.includes(true) ? this.sealNow() : this.sealNow()',
    tests: ['test/unit/volume/snapshots.test.ts'],
  },
  {
    name: 'a key file that was damaged on a remote stays so',
    file: 'src/sync/run.ts',
    find: 'const vital = [work.keyFile, rootFileOf(head)];',
    put: 'const vital = [rootFileOf(head)];',
    tests: ['test/unit/sync/run.test.ts'],
  },
  {
    name: 'a client that has said goodbye holds memory that others wait for',
    file: 'src/nbd/transmission.ts',
    find: 'this.link.account.stopWaiting();',
    put: 'this.link.account.close();',
    tests: ['test/unit/nbd/grammar.test.ts'],
  },
  {
    name: 'who accepts another copy on a remote is outranked by its key file',
    file: 'src/sync/run.ts',
    find: 'if (highest < ours.file.counter) return;',
    put: 'if (highest >= 0) return;',
    tests: ['test/unit/sync/run.test.ts'],
  },
  {
    name: 'who accepts another copy on a remote is not the newest there',
    file: 'src/sync/run.ts',
    find: 'this.source.sealAndPin(newestGeneration(others))',
    put: 'this.source.sealAndPin(0 * newestGeneration(others))',
    tests: ['test/unit/sync/run.test.ts'],
  },
  {
    name: 'a client is charged with the time that the device takes',
    file: 'src/nbd/transmission.ts',
    find: '      this.link.account.moved();\n    }\n',
    put: '    }\n',
    tests: ['test/unit/nbd/grammar.test.ts'],
  },
];
