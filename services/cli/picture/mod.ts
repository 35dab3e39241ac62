export { contactSheet, type SheetSection, type Tile } from "./contact_sheet.ts";
export { linePlot, type Panel, type Series, smooth } from "./line_plot.ts";
