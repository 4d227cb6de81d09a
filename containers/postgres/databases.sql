-- Run once, by the first start of the postgres container on an empty volume.
create database sluice_write;
create database sluice_read;
