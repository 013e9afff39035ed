# The longest runs of holes of a dataset, and its files: R with jsonlite and arrow.
#   Rscript holes.R https://example.org/register um/daily/klines/1m
arguments <- commandArgs(trailingOnly = TRUE)
site <- arguments[1]
dataset <- arguments[2]
read <- function(path) jsonlite::fromJSON(paste0(site, "/", path))

datasets <- read(read("latest.json")$documents$datasets)$datasets
one <- datasets[datasets$dataset == dataset, ]
holes <- read(one$documents$holes)$holes
print(head(holes[order(-holes$periods), ], 3))

files <- do.call(rbind, lapply(read(one$documents$files)$files$path, function(path) {
  local <- tempfile(fileext = ".parquet")
  download.file(paste0(site, "/", path), local, mode = "wb", quiet = TRUE)
  as.data.frame(arrow::read_parquet(local))
}))
print(nrow(files))
