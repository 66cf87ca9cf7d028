export interface PlantedBug {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly put: string;
  readonly tests: readonly string[];
}

export const PLANTED_BUGS: readonly PlantedBug[];
