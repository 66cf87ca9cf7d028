/** What is inside of a volume, and is no affair of who uses it, for tests that look or reach in. */
import type { Collector, CollectorParts } from '../../src/volume/collector.js';
import type { Volume, VolumeParts } from '../../src/volume/volume.js';

export function partsOf(volume: Volume): VolumeParts {
  return (volume as unknown as { parts: VolumeParts }).parts;
}

export function collectorParts(collector: Collector): CollectorParts {
  return (collector as unknown as { parts: CollectorParts }).parts;
}

/** A root that names the open group, as checkpoints between two seals make it. */
export async function makeOpenRoot(volume: Volume): Promise<void> {
  const { writePath, checkpointer } = collectorParts(partsOf(volume).collector);
  await writePath.exclusively(() => checkpointer.checkpoint());
}
