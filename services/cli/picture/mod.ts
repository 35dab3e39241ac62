export { contactSheet, type SheetSection, type Tile } from "./contact_sheet.ts";
export { linePlot, type Panel, type Series, smooth } from "./line_plot.ts";
export { type IntervalPanel, intervalPlot, type IntervalRow } from "./interval_plot.ts";
